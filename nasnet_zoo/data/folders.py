"""Image files in one folder per class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from nasnet_zoo.files import reading

from .arrays import TEST_SHARE, split

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")

Files = tuple[list[Path], np.ndarray]


def class_files(folder: str | os.PathLike[str]) -> tuple[Files, Files, tuple[str, ...]]:
    """Find the image files of class folders, including those in nested folders.

    Args:
        folder: Folder of class folders, or of ``train`` and ``test`` (or ``val``) folders that hold
            class folders. Without these, a fixed fifth of every class is the test set.

    Returns:
        Paths and int64 labels of the training images, the same of the test images, and the names of
        the training classes in alphabetical order.

    Raises:
        ValueError: If there are fewer than two classes, a class has no training images, there are no
            test images, or a link is broken or cyclic.
        OSError: If a folder cannot be read.
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
    train, test = split(labels, TEST_SHARE)
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
    """Find the image files in a folder and its nested folders, following links."""
    real = os.path.realpath(folder)
    if real in around:
        raise ValueError(
            f"{folder}: expected a folder of images. Received: a link to a folder around it"
        )
    with reading(folder, "a folder of images"):
        entries = list(os.scandir(folder))
    for entry in entries:
        if os.path.isdir(entry.path):  # unlike entry.is_dir(), False for a cyclic link
            if not entry.name.startswith("."):
                yield from _images_below(Path(entry.path), (*around, real))
        elif os.path.splitext(entry.name)[1].lower() in _SUFFIXES:
            if entry.is_symlink():
                _check_link(Path(entry.path))
            yield Path(entry.path)


def _check_link(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise ValueError(f"{path}: expected a file or a folder. Received: a link that leads nowhere")
