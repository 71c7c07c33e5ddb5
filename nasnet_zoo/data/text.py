"""Text for language models: Penn Treebank, plain text files, and the text that comes with Python."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from nasnet_zoo.checking import checked
from nasnet_zoo.files import read_text

#: What a text is divided into.
Level = Literal["words", "characters"]
#: Tokens of Penn Treebank: the end of a line, and a word that is not in the vocabulary.
END, UNKNOWN = "<eos>", "<unk>"
#: The default text, the topics of Python's documentation.
PYDOC = "pydoc"
# The share of a text without parts of its own that each part gets.
_SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}


@dataclass(frozen=True, eq=False)
class TextData:
    """A text as numbers of tokens.

    Args:
        name: Name of the text.
        vocabulary: The tokens by their numbers, the most frequent first.
        train: int32 (tokens,), to train on.
        valid: int32 (tokens,), to evaluate on during training and search.
        test: int32 (tokens,), to evaluate on once.
    """

    name: str
    vocabulary: tuple[str, ...]
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


@checked
def open_text(
    source: TextData | str | os.PathLike[str] = PYDOC,
    level: Level = "words",
    vocabulary: Annotated[int, Ge(2)] = 10_000,
) -> TextData:
    """Open a text.

    The vocabulary is of the training text alone. Unless it has ``<unk>`` of its own, as Penn Treebank
    has, tokens that occur once in it count as unknown, so that unknown ones are learned.

    Args:
        source: One of:

            - ``"pydoc"``: the topics of Python's documentation, `pydoc_data.topics`. A paragraph that
              repeats an earlier one is left out, and every topic belongs to one part, so that no part
              has text of another.
            - A folder of Penn Treebank: ``ptb.train.txt``, ``ptb.valid.txt`` and ``ptb.test.txt``,
              whose words are separated by spaces.
            - A text file in UTF-8. Its first 80 % are the training text, the next 10 % are held out.
            - A `TextData`, which is returned as it is.
        level: "words", among which punctuation marks and the ends of lines count, or "characters".
        vocabulary: Largest number of different tokens. Rarer ones count as unknown.

    Raises:
        ValueError: If a text is not UTF-8, a part has no text, or the training text has a single token.
        OSError: If a file cannot be read.
    """
    if isinstance(source, TextData):
        return source
    name, prepared = os.fspath(source), Path(source).is_dir()
    if prepared:
        parts = {part: read_text(Path(name) / f"ptb.{part}.txt", "a text") for part in _SHARES}
    else:
        parts = _pydoc() if name == PYDOC else _divided(read_text(name, "a text"))
    tokens = {part: _tokens(text, level, prepared) for part, text in parts.items()}
    for part, found in tokens.items():
        if not found:
            raise ValueError(f"{name}: expected text to {_USES[part]}. Received: nothing")
    known = _vocabulary(tokens["train"], vocabulary)
    if len(set(known) - {END, UNKNOWN}) < 2:
        raise ValueError(
            f"{name}: expected at least two different {level} that occur twice in the training text. "
            f"Received: {len(set(tokens['train']) - {END, UNKNOWN})} different {level} in all"
        )
    numbers = {token: number for number, token in enumerate(known)}
    unknown = numbers[UNKNOWN]
    encoded = {
        part: np.array([numbers.get(token, unknown) for token in found], np.int32)
        for part, found in tokens.items()
    }
    return TextData(name, known, **encoded)


_USES = {"train": "train on", "valid": "hold out", "test": "test on"}


def _pydoc() -> dict[str, str]:
    from pydoc_data.topics import topics

    seen: set[str] = set()
    parts: dict[str, list[str]] = {part: [] for part in _SHARES}
    sizes = dict.fromkeys(_SHARES, 0)
    # Large ones first: the parts then come out near their shares.
    for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        for_part = min(_SHARES, key=lambda part: sizes[part] / _SHARES[part])
        for paragraph in topics[name].split("\n\n"):
            plain = " ".join(paragraph.split())
            if plain and plain not in seen:
                seen.add(plain)
                parts[for_part].append(paragraph.strip("\n"))
                sizes[for_part] += len(paragraph)
    return {part: "\n\n".join(paragraphs) for part, paragraphs in parts.items()}


def _divided(text: str) -> dict[str, str]:
    ends = [0, *(round(len(text) * share) for share in np.cumsum(list(_SHARES.values())))]
    return {part: text[a:b] for part, a, b in zip(_SHARES, ends, ends[1:], strict=False)}


def _tokens(text: str, level: Level, prepared: bool) -> list[str]:
    if level == "characters":
        return list(text)
    lines = (
        line.split() if prepared else re.findall(r"\w+|[^\w\s]", line) for line in text.splitlines()
    )
    return [token for line in lines if line for token in (*line, END)]


def _vocabulary(tokens: Iterable[str], most: int) -> tuple[str, ...]:
    counts = Counter(tokens)
    least = 1 if UNKNOWN in counts else 2
    ranked = sorted(counts, key=lambda token: (-counts[token], token))
    known = [token for token in ranked if counts[token] >= least and token != UNKNOWN]
    return (*known[: most - 1], UNKNOWN) if known else ()


def rows_of(tokens: np.ndarray, batch_size: int, steps: int) -> np.ndarray:
    """Arrange a text as the rows of a batch, each of which goes on where the one before it ends.

    Args:
        tokens: int32 (tokens,).
        batch_size: Number of rows.
        steps: Number of tokens that a step needs of every row, and one more.

    Returns:
        int32 (batch_size, tokens // batch_size). What remains is left out.

    Raises:
        ValueError: If the text is shorter than one batch.
    """
    length = len(tokens) // batch_size
    if length <= steps:
        raise ValueError(
            f"Expected a text of at least {batch_size * (steps + 1):,} tokens, which a batch of "
            f"{batch_size} rows of {steps} steps takes. Received: {len(tokens):,} tokens"
        )
    return tokens[: batch_size * length].reshape(batch_size, length)
