"""Settings of an export: what the file holds, and how far it may be from Keras."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nasnet_zoo.checking import PositiveInt, Share, check_fields

Format = Literal["saved_model", "litert", "onnx"]
Quantization = Literal["float32", "float16", "dynamic", "int8", "int16x8"]
Converter = Literal["native", "official"]

#: The formats, and the quantizations of each.
FORMATS: dict[str, tuple[str, ...]] = {
    "saved_model": ("float32",),
    "litert": ("float32", "float16", "dynamic", "int8", "int16x8"),
    "onnx": ("float32", "float16", "int8"),
}
#: The suffix of a file of each format.
SUFFIXES = {"saved_model": "", "litert": ".tflite", "onnx": ".onnx"}
#: The quantizations whose ranges are read off representative images.
CALIBRATED = ("int8", "int16x8")

#: Least share of images on which the greatest output is that of Keras, by quantization.
MIN_AGREEMENT = {"float32": 0.99, "float16": 0.98, "dynamic": 0.9, "int8": 0.85, "int16x8": 0.9}
#: The same for a file whose metadata holds no quantization.
MIN_AGREEMENT_UNKNOWN = 0.85


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much worse than the Keras model a file may be.

    Args:
        min_agreement: Least share of images on which the greatest output is that of Keras, in [0, 1].
            Default: by quantization, 0.99 for float32, 0.98 for float16, 0.9 for dynamic and int16x8,
            0.85 for int8; 0 on generated images.
        max_accuracy_drop: Greatest loss of accuracy, in [0, 1].

    Raises:
        ValueError: If a number is out of range.
    """

    min_agreement: Share | None = None
    max_accuracy_drop: Share = 0.05

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class ExportSettings(Limits):
    """What an exported file holds.

    Args:
        format: Format of the file. Default: by the path's suffix, ``.tflite``, ``.onnx`` or none.
        quantization: Numbers in the file: "float32"; "float16" weights; for LiteRT also "dynamic", int8
            weights; "int8" weights and activations, for LiteRT and ONNX; "int16x8", int16 activations
            and int8 weights, for LiteRT.
        preprocess: Whether the file takes uint8 images and does `preprocess_input` itself.
        byte_outputs: Whether a LiteRT file of "int8" gives uint8, on a scale that it holds:
            probabilities in steps of 1/256.
        image_size: (height, width) in pixels, for a model that leaves them open: of the file's images,
            or, with the "official" converter, whose files leave them open too, of the images to compare
            on.
        opset: Version of ONNX's operator set.
        converter: "native" writes the inference graph of a model of this package; "official" is the
            format's own converter, for float32 and for models with other layers.

    Raises:
        ValueError: If a value is out of range, or two of them contradict each other.
    """

    format: Format | None = None
    quantization: Quantization = "float32"
    preprocess: bool = False
    byte_outputs: bool = False
    image_size: tuple[PositiveInt, PositiveInt] | None = None
    opset: PositiveInt | None = None
    converter: Converter = "native"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.converter == "official" and (self.quantization != "float32" or self.preprocess):
            raise ValueError(
                "Expected quantization='float32' and preprocess=False with converter='official'. "
                f"Received: quantization={self.quantization!r}, preprocess={self.preprocess}"
            )

    def format_of(self, path: Path) -> str:
        """The format of the file at a path.

        Raises:
            ValueError: If there is no such format, it is that of another suffix, or the settings do not
                fit it.
        """
        format = format_of(path, self.format)  # noqa: A001
        if self.quantization not in FORMATS[format]:
            raise ValueError(
                f"Expected a quantization of {format}, {', '.join(FORMATS[format])}. "
                f"Received: quantization={self.quantization!r}"
            )
        if self.byte_outputs and (format, self.quantization) != ("litert", "int8"):
            raise ValueError(
                "Expected byte_outputs with a LiteRT file of quantization='int8'. "
                f"Received: {format=}, quantization={self.quantization!r}"
            )
        if self.opset is not None and format != "onnx":
            raise ValueError(
                f"Expected opset with an ONNX file. Received: {format=}, opset={self.opset}"
            )
        return format


def format_of(path: Path, format: str | None = None) -> str:  # noqa: A002
    """The format of a file, by name or by the path's suffix.

    Raises:
        ValueError: If there is no such format, or the suffix is another's.
    """
    formats = {suffix: name for name, suffix in SUFFIXES.items()}
    format = formats.get(path.suffix) if format is None else format  # noqa: A001
    if format not in FORMATS:
        raise ValueError(
            f"Expected a format of {', '.join(FORMATS)}, or a path that ends in .tflite or .onnx. "
            f"Received: format={format!r}, path={os.fspath(path)!r}"
        )
    if SUFFIXES[format] and path.suffix != SUFFIXES[format]:
        raise ValueError(
            f"Expected a path that ends in {SUFFIXES[format]}. Received: {os.fspath(path)!r}"
        )
    return format
