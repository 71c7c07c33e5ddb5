"""Image data sets as NumPy arrays: scikit-learn's digits, IDX files, folders of class folders."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_zoo.checking import PositiveInt, checked
from nasnet_zoo.extras import import_extra
from nasnet_zoo.files import read_text, reading

# Pillow is told which formats to try: some that it knows run other programs on the file.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")
_ORIENTATION = 0x0112  # in EXIF
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
_TEST_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class ImageData:
    """A labelled image data set in memory.

    Args:
        train_images: uint8, (images, height, width, channels), with 1 or 3 channels.
        train_labels: int64, (images,), class numbers from 0.
        test_images: as the training images, held out.
        test_labels: as the training labels.
        class_names: one per class.
        name: of the data set.
        found: images that the source holds; more than are here if a limit was given.

    Raises:
        ValueError: if the arrays do not fit each other.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    name: str
    found: int

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
                raise ValueError(
                    f"{self.name}: expected uint8 images (images, height, width, 1 or 3) to {part}. "
                    f"Received: {images.dtype} {images.shape}"
                )
            if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
                raise ValueError(
                    f"{self.name}: expected int labels (images,) to {part}. "
                    f"Received: {labels.dtype} {labels.shape}"
                )
            if len(images) != len(labels):
                raise ValueError(
                    f"{self.name}: expected one label for each image to {part}. "
                    f"Received: {len(images)} images, {len(labels)} labels"
                )
            if not len(labels):
                raise ValueError(f"{self.name}: expected images to {part}. Received: none")
            if labels.min() < 0 or labels.max() >= len(self.class_names):
                raise ValueError(
                    f"{self.name}: expected labels from 0 to {len(self.class_names) - 1} to {part}. "
                    f"Received: {labels.min()} to {labels.max()}"
                )


@checked
def load_data(
    source: str | os.PathLike[str], limit: PositiveInt | None = None, image_size: PositiveInt = 32
) -> ImageData:
    """Loads a data set by what it is.

    Args:
        source: "digits", or the path of a folder of IDX files or of class folders.
        limit: the most images to keep to train and to test, evenly from all classes.
        image_size: height and width in pixels to read the images of class folders at.

    Raises:
        ValueError: if the source is neither, or holds something broken.
        ImportError: if the optional package that it needs is not installed.
    """
    if source == "digits":
        return limited(load_digits(), limit)
    folder = Path(source)
    if not os.fspath(source) or not folder.is_dir():
        raise ValueError(f"Expected 'digits' or the path of a folder. Received: {os.fspath(source)!r}")
    if has_idx_files(folder):
        return limited(load_idx(folder), limit)
    return load_folder(folder, image_size, limit)


def read_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of classes, in their order, from a text file with one in each line.

    Raises:
        ValueError: if there are none.
        OSError: if the file cannot be read.
    """
    names = tuple(line for line in read_text(path, "class names").splitlines() if line)
    if not names:
        raise ValueError(f"{path}: expected the name of a class in each line. Received: no lines")
    return names


def load_digits() -> ImageData:
    """scikit-learn's digits: 1,797 grey images of 8x8 pixels, handwritten 0 to 9.

    A fixed fifth of every class is held out to test.

    Raises:
        ImportError: if scikit-learn is not installed.
    """
    digits = import_extra("sklearn.datasets", "demo").load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    train, test = split(labels, _TEST_SHARE)
    names = tuple(str(digit) for digit in range(10))
    return ImageData(
        images[train], labels[train], images[test], labels[test], names, "digits", len(labels)
    )


# === IDX files ===


def load_idx(folder: str | os.PathLike[str]) -> ImageData:
    """Reads the four IDX files of MNIST, Fashion-MNIST and the like, compressed by gzip or not.

    Args:
        folder: holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same for
            ``t10k`` (or ``test``), each alone or with ``.gz``; ``train-images.idx3-ubyte`` will do.

    Raises:
        ValueError: naming the file that is missing, broken or cut short, or does not fit.
    """
    folder = Path(folder)
    arrays = []
    for part in ("train", "test"):
        for kind in ("images", "labels"):
            path = _idx_file(folder, part, kind)
            if path is None:
                raise ValueError(
                    f"{folder}: expected an IDX file with the {kind} to {part}. Received: none"
                )
            arrays.append(_read_idx(path, kind))
    train_images, train_labels, test_images, test_labels = arrays
    if train_images.shape[1:] != test_images.shape[1:]:
        raise ValueError(
            f"{folder}: expected images of one size. "
            f"Received: {train_images.shape[1:]} to train, {test_images.shape[1:]} to test"
        )
    classes = int(max(train_labels.max(initial=0), test_labels.max(initial=0))) + 1
    names = tuple(str(label) for label in range(classes))
    found = len(train_labels) + len(test_labels)
    return ImageData(train_images, train_labels, test_images, test_labels, names, folder.name, found)


def has_idx_files(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds the training images of an IDX data set."""
    return _idx_file(Path(folder), "train", "images") is not None


def _idx_file(folder: Path, part: str, kind: str) -> Path | None:
    dimensions = 3 if kind == "images" else 1
    for prefix in ("train",) if part == "train" else ("t10k", "test"):
        for joint in "-.":
            for suffix in ("", ".gz"):
                path = folder / f"{prefix}-{kind}{joint}idx{dimensions}-ubyte{suffix}"
                if path.is_file():
                    return path
    return None


def _read_idx(path: Path, kind: str) -> np.ndarray:
    """The (images, height, width, 1) uint8 images or the int64 labels of an IDX file."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
            values = _idx_values(stream, path, dimensions=3 if kind == "images" else 1)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: expected a readable file. Received: {error}") from None
    return values[..., None] if kind == "images" else values.astype(np.int64)


def _idx_values(stream: Any, path: Path, dimensions: int) -> np.ndarray:
    length = 4 + 4 * dimensions
    header = stream.read(length)
    magic = bytes((0, 0, 8, dimensions))
    if header[:4] != magic:
        raise ValueError(
            f"{path}: expected an IDX file of bytes with {dimensions} dimensions, which begins with "
            f"{magic.hex()}. Received: {header[:4].hex() or 'an empty file'}"
        )
    if len(header) < length:
        raise ValueError(f"{path}: expected a header of {length} bytes. Received: {len(header)}")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    size = math.prod(shape)
    values = bytearray()
    # In parts: a file need not be as long as its header says.
    while len(values) <= size and (part := stream.read(min(size + 1 - len(values), 2**20))):
        values += part
    if len(values) != size:
        more = "more" if len(values) > size else len(values)
        raise ValueError(f"{path}: expected {size} bytes after the header {shape}. Received: {more}")
    return np.frombuffer(values, np.uint8).reshape(shape)


# === Class folders ===


@checked
def load_folder(
    folder: str | os.PathLike[str], image_size: PositiveInt = 32, limit: PositiveInt | None = None
) -> ImageData:
    """Reads images sorted into one folder per class.

    Args:
        folder: holds class folders, or ``train`` and ``test`` (or ``val``) folders that do. Without
            these, a fixed fifth of every class is held out to test.
        image_size: height and width in pixels to which every image is scaled, its longer side
            cropped about the middle first.
        limit: the most images to read to train and to test, evenly from all classes.

    Returns:
        Images in RGB; classes in alphabetical order, those of the training images.

    Raises:
        ValueError: if there are no classes or no images, or naming the image that cannot be read.
        ImportError: if Pillow is not installed.
    """
    (paths, labels), (test_paths, test_labels), names = class_files(folder)
    chosen, test_chosen = balanced(labels, limit), balanced(test_labels, limit)
    return ImageData(
        _read_images([paths[k] for k in chosen], image_size),
        labels[chosen],
        _read_images([test_paths[k] for k in test_chosen], image_size),
        test_labels[test_chosen],
        names,
        Path(folder).resolve().name,
        len(labels) + len(test_labels),
    )


Files = tuple[list[Path], np.ndarray]


def class_files(folder: str | os.PathLike[str]) -> tuple[Files, Files, tuple[str, ...]]:
    """Finds the image files of class folders, those in folders inside them too.

    Args:
        folder: see `load_folder`; the images to test on may be in ``val`` instead of ``test``.

    Returns:
        The paths and int64 labels of the images to train on, those to test on, and the class names.

    Raises:
        ValueError: if there are no classes, a class has no images to train on, there are none to test
            on, or naming a link that leads nowhere or in a circle.
        OSError: if a folder cannot be read.
    """
    folder = Path(folder)
    test_root = next((root for root in (folder / "test", folder / "val") if root.is_dir()), None)
    is_split = test_root is not None and (folder / "train").is_dir()
    root = folder / "train" if is_split else folder
    names = _subfolders(root)
    if len(names) < 2:
        raise ValueError(f"{root}: expected at least two class folders. Received: {names}")
    paths, labels = _image_paths(root, names)
    counts = np.bincount(labels, minlength=len(names))
    if not counts.all():
        empty = root / names[int(counts.argmin())]
        raise ValueError(f"{empty}: expected images ({', '.join(_SUFFIXES)}). Received: none")
    if test_root is not None and is_split:
        unknown = sorted(set(_subfolders(test_root)) - set(names))
        if unknown:
            raise ValueError(f"{test_root}: expected the classes of train. Received: {unknown}")
        test_files = _image_paths(test_root, names)
        if not test_files[0]:
            raise ValueError(f"{test_root}: expected images in the class folders. Received: none")
        return (paths, labels), test_files, tuple(names)
    train, test = split(labels, _TEST_SHARE)
    if not len(test):
        raise ValueError(
            f"{root}: expected at least 3 images in a class, as a fifth of each class is held out to "
            f"test. Received: at most {counts.max()}"
        )
    held_out = [paths[k] for k in test], labels[test]
    return ([paths[k] for k in train], labels[train]), held_out, tuple(names)


def _subfolders(folder: Path) -> list[str]:
    with reading(folder, "a folder of class folders"):
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    for path in entries:
        _check_link(path)
    return sorted(path.name for path in entries if path.is_dir())


def _image_paths(root: Path, names: Sequence[str]) -> Files:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        if (root / name).is_dir():
            files = sorted(_images_below(root / name, ()))
            paths += files
            labels += [label] * len(files)
    return paths, np.array(labels, np.int64)


def _images_below(folder: Path, around: tuple[str, ...]) -> Iterator[Path]:
    """The image files in a folder and in those inside it; links are followed."""
    real = os.path.realpath(folder)
    if real in around:
        raise ValueError(
            f"{folder}: expected a folder of images. Received: a link to a folder around it"
        )
    with reading(folder, "a folder of images"):
        entries = list(os.scandir(folder))
    for entry in entries:
        if os.path.isdir(entry.path):  # unlike entry.is_dir(), false of a link in a circle
            if not entry.name.startswith("."):
                yield from _images_below(Path(entry.path), (*around, real))
        elif os.path.splitext(entry.name)[1].lower() in _SUFFIXES:
            if entry.is_symlink():
                _check_link(Path(entry.path))
            yield Path(entry.path)


def _check_link(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise ValueError(f"{path}: expected a file or a folder. Received: a link that leads nowhere")


def _read_images(paths: Sequence[Path], size: int) -> np.ndarray:
    pillow, operations = import_extra("PIL.Image", "train"), import_extra("PIL.ImageOps", "train")
    images = np.empty((len(paths), size, size, 3), np.uint8)
    for k, path in enumerate(paths):
        image = pillow.fromarray(read_pixels(path, at_least=size))
        images[k] = np.asarray(operations.fit(image, (size, size), pillow.Resampling.BICUBIC))
    return images


def read_pixels(path: str | os.PathLike[str], at_least: int | None = None) -> np.ndarray:
    """Decodes an image file: the one way in which all parts of this package read images.

    Numbers of 16 bits keep their upper 8, transparency is left out, of several frames the first is
    taken, and an image that a camera marked as lying on its side (EXIF) is turned upright.

    Args:
        path: of a PNG, JPEG, BMP, GIF, WebP, PNM or TIFF file, whatever its name says.
        at_least: height and width in pixels below which it does not matter how large the result is:
            a JPEG may be decoded at a fraction of its size, for speed.

    Returns:
        uint8 (height, width, 3) in RGB.

    Raises:
        ValueError: naming the file, if it cannot be decoded.
        OSError: if it cannot be opened.
        ImportError: if Pillow is not installed.
    """
    with _opened(path) as image:
        if at_least is not None:
            image.draft("RGB", (at_least, at_least))
        if _orientation(image) != 1:
            image = import_extra("PIL.ImageOps", "train").exif_transpose(image)
        if image.mode.startswith("I"):
            # Pillow would cut off what is above 255.
            numbers = np.asarray(image)
            if numbers.min() < 0 or numbers.max() > 65535:
                raise ValueError("numbers of more than 16 bits")
            return np.repeat((numbers >> 8).astype(np.uint8)[..., None], 3, axis=-1)
        if image.mode == "F":
            raise ValueError("floating-point numbers")
        return np.asarray(image.convert("RGB"))


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width in pixels of what `read_pixels` gives, from the head of the file.

    Raises:
        ValueError: naming the file, if it is no image.
    """
    with _opened(path) as image:
        if image.format == "TIFF":
            image.load()  # Pillow turns TIFF files itself, when it loads them
        width, height = image.size
        return (width, height) if _orientation(image) in _SIDEWAYS else (height, width)


def is_turned(path: str | os.PathLike[str]) -> bool:
    """Whether an image file is seen otherwise than it is stored.

    Raises:
        ValueError: naming the file, if it is no image.
    """
    with _opened(path) as image:
        return _orientation(image) != 1


def is_plain_jpeg(path: str | os.PathLike[str]) -> bool:
    """Whether an image file is an upright JPEG in grey or colour: other libraries read these alike.

    Raises:
        ValueError: naming the file, if it is no image.
    """
    with _opened(path) as image:
        return image.format == "JPEG" and image.mode in ("L", "RGB") and _orientation(image) == 1


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    pillow = import_extra("PIL.Image", "train")
    with reading(path, "an image"), open(path, "rb") as file:
        try:
            with pillow.open(file, formats=_FORMATS) as image:
                yield image
        # Pillow's decoders raise many kinds of error on broken files.
        except Exception as error:
            unknown = isinstance(error, import_extra("PIL", "train").UnidentifiedImageError)
            received = f"none of {', '.join(_FORMATS)}" if unknown else error
            raise ValueError(f"{path}: expected a readable image. Received: {received}") from None


def _orientation(image: Any) -> int:
    # Of the head of the file: the method of PNG would decode the whole image.
    return import_extra("PIL.Image", "train").Image.getexif(image).get(_ORIENTATION, 1)


# === Subsets ===


def split(labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Holds out a share of every class, always the same one for the same labels.

    Args:
        labels: int, (images,).
        share: of every class to hold out, in (0, 1).

    Returns:
        Indices of the images kept and of those held out, each in a fixed random order.
    """
    order, ranks = _shuffled(labels)
    held_out = ranks < np.round(np.bincount(labels)[labels[order]] * share)
    return order[~held_out], order[held_out]


def balanced(labels: np.ndarray, limit: int | None) -> np.ndarray:
    """Indices, in ascending order, of at most ``limit`` images spread evenly over the classes.

    A class with fewer images than its part leaves the rest of it to the others.
    """
    if limit is None or len(labels) <= limit:
        return np.arange(len(labels))
    order, ranks = _shuffled(labels)
    # Every class's first image comes before any class's second.
    return np.sort(order[np.argsort(ranks, kind="stable")][:limit])


def _shuffled(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A fixed random order of all indices, and what place each of them has within its class."""
    order = np.random.default_rng(0).permutation(len(labels))
    ranks = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = labels[order] == label
        ranks[members] = np.arange(members.sum())
    return order, ranks


def limited(data: ImageData, limit: int | None) -> ImageData:
    """The data set with at most ``limit`` images to train and to test, evenly from all classes."""
    train, test = balanced(data.train_labels, limit), balanced(data.test_labels, limit)
    return ImageData(
        data.train_images[train],
        data.train_labels[train],
        data.test_images[test],
        data.test_labels[test],
        data.class_names,
        data.name,
        data.found,
    )
