"""Model cards: Markdown files beside exported files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

#: Line that identifies our model cards.
WRITTEN_BY = "Written by nasnet-zoo."


def card_path(path: Path) -> Path:
    """Return the path of a file's model card."""
    return path.with_name(path.name + ".md")


def check_card(path: Path) -> None:
    """Raise a `ValueError` if a file's model card would replace a file of another kind."""
    card = card_path(path)
    if card.exists() and WRITTEN_BY not in card.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(
            f"{path}: expected a name whose model card, {card.name}, is new or an earlier one. "
            "Received: the name of a file of another kind"
        )


class Exported(Protocol):
    """Facts about an exported file."""

    @property
    def format(self) -> str:
        """Format of the file."""

    @property
    def size(self) -> int:
        """Size in bytes."""

    @property
    def comparison(self) -> str:
        """Comparison with Keras in one sentence."""


def card(
    result: Exported, metadata: Mapping[str, str], outputs: Sequence[str], batch: str = "batch"
) -> str:
    """Write a model card in Markdown.

    Args:
        result: Exported file.
        metadata: Metadata of the file, see `nasnet_zoo.export.metadata.describe`.
        outputs: Names of the outputs.
        batch: Batch size.
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
