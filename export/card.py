"""The metadata of an exported file, and the model card beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import keras

from .settings import ExportSettings

#: Line by which our model cards are known.
WRITTEN_BY = "Written by nasnet-zoo."


def card_path(path: Path) -> Path:
    """The path of a file's model card."""
    return path.with_name(path.name + ".md")


def check_card(path: Path) -> None:
    """Raises a `ValueError` where a file's model card would replace a file that is none of ours."""
    card = card_path(path)
    if card.exists() and WRITTEN_BY not in card.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(
            f"{path}: expected a name whose model card, {card.name}, is new or an earlier one. "
            "Received: the name of a file of another kind"
        )


class Exported(Protocol):
    """What a card says of a file."""

    @property
    def format(self) -> str:
        """Format of the file."""

    @property
    def size(self) -> int:
        """Size in bytes."""

    @property
    def comparison(self) -> str:
        """The comparison with Keras in one sentence."""


def describe(
    model: keras.Model,
    image_shape: Sequence[int],
    image: str,
    output: str,
    class_names: Sequence[str] | None,
    settings: ExportSettings,
) -> dict[str, str]:
    """The metadata of a file.

    Args:
        model: Model that it is made of.
        image_shape: (height, width, channels) of its images.
        image: Type and range of its images.
        output: Type and meaning of its outputs.
        class_names: Names of the classes, if they are known.
        settings: Settings of the export.
    """
    metadata = {
        "name": str(model.name),
        "image_shape": json.dumps(image_shape),
        "image": image,
        "output": output,
        "quantization": settings.quantization,
        "parameters": str(model.count_params()),
        "producer": "nasnet-zoo",
        "converter": settings.converter,
    }
    if class_names is not None:
        metadata["class_names"] = json.dumps([str(name) for name in class_names])
    return metadata


def card(
    result: Exported, metadata: Mapping[str, str], outputs: Sequence[str], batch: str = "batch"
) -> str:
    """A model card in Markdown.

    Args:
        result: The file and how it compares.
        metadata: See `describe`.
        outputs: Names of its outputs.
        batch: Its batch size.
    """
    lines = [
        f"# {metadata['name']}",
        "",
        f"{result.format} file, {result.size:,} bytes, {metadata['quantization']}, of a model with "
        f"{int(metadata['parameters']):,} parameters. {WRITTEN_BY}",
        "",
        f"- Input `image`: ({batch}, {metadata['image_shape'][1:-1]}), {metadata['image']}.",
        f"- Output: {', '.join(f'`{name}`' for name in outputs)}, {metadata['output']}.",
        f"- Compared with Keras: {result.comparison}.",
    ]
    if "class_names" in metadata:
        lines.append(f"- Classes: {', '.join(json.loads(metadata['class_names']))}.")
    return "\n".join(lines) + "\n"
