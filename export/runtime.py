"""An exported file in its own runtime."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from nasnet_zoo.files import parse_json

ImageShape = tuple[int | None, ...]

#: Name of the metadata in a file: of a buffer in a LiteRT file, of a file in a SavedModel's folder.
METADATA_NAME = "nasnet_zoo.json"


@dataclass(frozen=True)
class Runtime:
    """A file, loaded and ready to run.

    Args:
        name: Name of the runtime.
        size: Size of the file, or of all files of the folder, in bytes.
        image_shape: (height, width, channels) of the images; None where any size will do.
        outputs: Names of the outputs.
        run: Function from images (batch, height, width, channels) to the outputs, float32 (dequantized
            where they are bytes) or ints.
        image_dtype: Type of the images: "float32", or "uint8" for bytes as files hold them.
        metadata: Facts about the model that the file holds, such as ``class_names`` (JSON), by name;
            empty in files of other writers.
    """

    name: str
    size: int
    image_shape: ImageShape
    outputs: tuple[str, ...]
    run: Callable[[np.ndarray], list[np.ndarray]]
    image_dtype: str = "float32"
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, if the file holds them.

        Raises:
            ValueError: If they are not a list of names.
        """
        if "class_names" not in self.metadata:
            return None
        expected = "Expected class names in the file's metadata"
        names = parse_json(self.metadata["class_names"], expected)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{expected}. Received: {self.metadata['class_names'][:80]}")
        return tuple(names)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The first output, (batch, ...), for images (batch, height, width, channels).

        Raises:
            ValueError: If the images' type or shape does not fit.
        """
        return self.predict_all(images)[0]

    def predict_all(self, images: np.ndarray) -> list[np.ndarray]:
        """All outputs, as `predict`."""
        images = np.asarray(images)
        pairs = zip(self.image_shape, images.shape[1:], strict=True) if images.ndim == 4 else ()
        fits = pairs and all(expected in (None, size) for expected, size in pairs)
        if not fits or images.dtype != self.image_dtype or not len(images):
            shape = ", ".join(map(str, self.image_shape))
            raise ValueError(
                f"Expected {self.image_dtype} images of shape (batch, {shape}). "
                f"Received: {images.dtype} {images.shape}"
            )
        return self.run(images)

    def latency(self, image: np.ndarray, runs: int = 50, warm_up: int = 5) -> float:
        """The median time of one image, in seconds.

        Args:
            image: Image (1, height, width, channels).
            runs: Number of timed runs.
            warm_up: Number of runs before.
        """
        for _ in range(warm_up):
            self.predict(image)
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            self.predict(image)
            times.append(time.perf_counter() - start)
        return statistics.median(times)


@dataclass(frozen=True)
class OperatorTime:
    """The time of an operator, or of all operators of a kind.

    Args:
        kind: Kind by the runtime's name, with the size of a convolution's kernel.
        multiply_adds: Multiply-adds of convolutions and dense layers; 0 of other operators.
        name: Name of the first output.
        seconds: Median time of one image.
        count: Number of operators.
    """

    kind: str
    multiply_adds: int
    name: str
    seconds: float
    count: int = 1


def parse_metadata(text: str) -> dict[str, str]:
    """The metadata of a file, from JSON.

    Raises:
        ValueError: If the text is no object of texts.
    """
    metadata = parse_json(text, "Expected metadata in JSON")
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError(f"Expected metadata, an object of texts. Received: {text[:80]}")
    return metadata


def by_number(name: str) -> tuple[int, str]:
    """Put output_10 behind output_9; neither runtime keeps the order of the outputs."""
    return len(name), name


def counted(names: Iterable[str]) -> dict[str, int]:
    """How often each name occurs, the most frequent first."""
    return dict(Counter(names).most_common())
