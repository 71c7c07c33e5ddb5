"""Searches whose children begin with what a trained base network computes ([E], [P])."""

from __future__ import annotations

import itertools
import os
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from nasnet_zoo.cells import CIFAR
from nasnet_zoo.checking import PositiveInt, checked
from nasnet_zoo.data import ImageData
from nasnet_zoo.files import reading, replacing
from nasnet_zoo.network import architecture_of
from nasnet_zoo.saving import load_model
from nasnet_zoo.search.evaluator import Trial
from nasnet_zoo.search.journal import Record

from .child import Child, FastChild, Images, ImageTraining
from .latency import LatencyMeter
from .search import search_networks
from .settings import GrownSettings

#: The file of a trained base in the folder of its search.
BASE = "base.npz"

Vectors = Mapping[str, np.ndarray]
_KINDS = ("weights", "statistics")


def vectors(model: keras.Model) -> dict[str, np.ndarray]:
    """Return the weights of a model of blocks as a `Child` has them, each kind in one vector."""
    kinds = zip(_KINDS, (model.trainable_weights, model.non_trainable_weights), strict=True)
    return {kind: np.concatenate([np.ravel(w) for w in some]) for kind, some in kinds}


class GrownChild(FastChild):
    """Trains a child that begins with weights made from those of a base. Subclasses define `first`.

    A base whose weights are not given is trained before the first child, as long as a child, and kept
    in a file, so that a search that goes on has the same one.

    Args:
        images: Images to train and to evaluate on.
        settings: Settings of the search.
        latency: Meter of the children's latency. Default: it is not measured.
        file: File that a trained base is kept in. Default: it is not.

    Raises:
        ValueError: If the weights of the base do not fit.
        OSError: If they cannot be read.
    """

    def __init__(
        self,
        images: Images,
        settings: GrownSettings,
        latency: LatencyMeter | None = None,
        file: Path | None = None,
    ) -> None:
        super().__init__(images, settings.budget, latency)
        self.base, self.seed, self.file = settings.start, settings.seed, file
        path = settings.base_weights
        self._weights = None if path is None else self._given(path)

    @abstractmethod
    def first(self, genotype: Any, base: Vectors, seed: int) -> Vectors:
        """Return the weights that a child begins with, made from those of the base."""

    def prepare(self, architecture: Any) -> Any:
        """Return the graph of a child, its genotype, and the weights of the base."""
        if self._weights is None:
            self._weights = self._kept() or self._trained()
        return super().prepare(architecture), architecture, self._weights

    def start(self, trial: Trial) -> ImageTraining:
        """Return the training of a child.

        Raises:
            ValueError: If the images are too small for the network, or it cannot grow from the base.
        """
        graph, genotype, base = trial.child
        training = super().start(trial._replace(child=graph))
        if trial.checkpoint is None:
            for name, vector in self.first(genotype, base, trial.seed).items():
                training.variables()[name].assign(vector)
        return training

    def _kept(self) -> Vectors | None:
        """The weights of the base in the file; None if there are none, or they are damaged."""
        if self.file is None:
            return None
        try:
            with np.load(self.file, allow_pickle=False) as file:
                return {kind: file[kind] for kind in _KINDS}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            return None

    def _trained(self) -> Vectors:
        """The weights of the base after its training."""
        shape = self.images.train_images.shape[1:]
        graph = super().prepare(self.base)
        graph.check_sizes([shape])
        child = Child(graph, shape, CIFAR, self.seed)
        ImageTraining(child, self.images, self.budget, self.seed).train(0, self.budget.steps)
        found = {kind: child.variables()[kind].numpy() for kind in _KINDS}
        if not all(np.isfinite(vector).all() for vector in found.values()):
            raise ValueError(
                "Expected a learning rate with which the base does not diverge. "
                f"Received: learning_rate={self.budget.learning_rate}"
            )
        if self.file is not None:
            with replacing(self.file) as temporary:
                np.savez(temporary, **found)
        return found

    def _given(self, path: str) -> Vectors:
        """The weights of the base in a model.

        Raises:
            ValueError: If the file has another network, or one for other images or classes.
            OSError: If it cannot be read.
        """
        model = load_model(path, "a trained model of the base")
        try:
            parts = architecture_of(model).plan().parts
        except ValueError:  # of another package
            parts = ()
        expected = self.architecture(self.base).plan().parts
        found, wanted = ([getattr(part, "block", part) for part in p] for p in (parts, expected))
        for k, (one, other) in enumerate(itertools.zip_longest(found, wanted)):
            if one != other:
                raise ValueError(
                    f"{path}: expected block {k} of the base: {other or 'none'!s:.200}. "
                    f"Received: {one or 'none'!s:.200}"
                )
        channels, classes = self.images.train_images.shape[-1], self.images.classes
        if (model.input_shape[-1], model.output_shape[-1]) != (channels, classes):
            raise ValueError(
                f"{path}: expected a model of images with {channels} channels, {classes} classes. "
                f"Received: {model.input_shape[-1]} channels, {model.output_shape[-1]} classes"
            )
        return vectors(model)


@checked
def search_grown(
    data: ImageData | str | os.PathLike[str],
    out: str | os.PathLike[str],
    settings: GrownSettings,
    children: PositiveInt = 150,
    **options: Any,
) -> list[Record]:
    """Search networks that grow from one, or continue an earlier search in the same folder.

    Args:
        data: Data set that fits into memory, see `nasnet_zoo.data.open_dataset`.
        out: Folder of the search. Created if it does not exist. It has ``base.npz``, the weights of
            the base, unless these are given.
        settings: Settings of the search: `EASSettings` or `PathLevelSettings`.
        children: Number of children to sample in all. A greater number continues a finished search.
        **options: Those of `nasnet_zoo.search.images.search.search_networks`. Latency is a multiple of
            that of the base. Retrained children begin from scratch.

    Returns:
        The different children, or the retrained ones if there are any, best first.

    Raises:
        ValueError: If the weights of the base do not fit. For other errors see `search_networks`.
        OSError, ImportError, RuntimeError, KeyboardInterrupt: See `search_networks`.
    """
    about = {}
    if settings.base_weights is not None:
        with reading(settings.base_weights, "a trained model of the base") as path:
            about = {"base_weights_crc32": zlib.crc32(Path(path).read_bytes())}

    def make(images: Images, budget: Any, latency: LatencyMeter | None) -> GrownChild:
        return settings.make_child(images, latency, Path(out) / BASE)

    base = {"base": settings.start}
    return search_networks(data, out, settings, children, base, make, about=about, **options)
