"""Children as files: each of a Pareto front is trained as in the search, exported and verified."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from nasnet_zoo.architecture import Network, network_graph
from nasnet_zoo.export import export
from nasnet_zoo.models import from_architecture
from nasnet_zoo.search.evaluator import Result, Trial

from .child import FastChild, Images
from .latency import FILES
from .settings import ChildBudget

# Held-out images on which a file is compared with Keras; training images that int8's ranges are of.
_COMPARED, _CALIBRATING = 500, 100


class ExportedChild(FastChild):
    """Trains a child as `FastChild` does, and writes it as a verified file.

    With the seed that it had in the search, the file has the weights that the child had there.

    Args:
        images: Images to train and to evaluate on.
        budget: Training of a child.
        folder: Folder of the search. The files are in its folder ``front``.
        kind: "litert", "litert-int8" or "onnx".
    """

    def __init__(self, images: Images, budget: ChildBudget, folder: Path, kind: str) -> None:
        super().__init__(images, budget)
        self.folder, self.kind = folder, kind

    def file(self, number: int) -> str:
        """Path of the file of a child in the folder of the search."""
        name, _ = FILES[self.kind]
        return f"front/child-{number}{Path(name).suffix}"

    def setup(self) -> None:
        """Make the folder of the files."""
        super().setup()
        (self.folder / "front").mkdir(exist_ok=True)

    def prepare(self, architecture: Any) -> Any:
        """Return the graph of a child, and its network."""
        return super().prepare(architecture), self.architecture(architecture)

    def evaluate(self, trial: Trial) -> Result:
        """Train the network, evaluate it and write it.

        Returns:
            The result. Among its metrics are the path of the file, its accuracy on held-out images and
            the share of them on which it agrees with Keras.

        Raises:
            ValueError: If the images are too small for the network, or the file is too far from Keras.
        """
        graph, architecture = trial.child
        # A child that pauses at its end gives its weights.
        trial = trial._replace(child=graph, pause_at=self.budget.evaluations)
        result = super().evaluate(trial)
        if result.checkpoint is None:
            return result
        model = keras_model(architecture, self.images.classes, result.checkpoint)
        images = self.images
        quantization = FILES[self.kind][1]
        written = export(
            model,
            self.folder / self.file(trial.number),
            quantization=quantization,
            images=images.held_out_images[:_COMPARED],
            labels=images.held_out_labels[:_COMPARED],
            representative=images.train_images[:_CALIBRATING] if quantization == "int8" else None,
        )
        metrics = {
            **result.metrics,
            "file": self.file(trial.number),
            "file_accuracy": written.accuracy,
            "agreement": written.agreement,
        }
        return dataclasses.replace(result, status="finished", metrics=metrics, checkpoint=None)


def keras_model(
    architecture: Network, classes: int, weights: Mapping[str, Any], **options: Any
) -> keras.Model:
    """Build the Keras model of a child.

    Args:
        architecture: Network of the child.
        classes: Number of classes.
        weights: Its vectors "weights" and "statistics", see `Child.variables`.
        options: Further arguments of `nasnet_zoo.models.from_architecture`.
    """
    model = from_architecture(architecture, classes=classes, **options)
    shape = (architecture.image_size, architecture.image_size, architecture.channels)
    specs = [
        weight
        for node, _, primitive, found in network_graph(architecture, classes).steps([shape])
        for weight in primitive.weights(found[2], node.filters)
    ]
    left = {True: np.array(weights["weights"]), False: np.array(weights["statistics"])}
    # The parts own their weights in the order of the graph's primitives.
    parts = [model.get_layer(part.name) for part in architecture.plan().parts]
    owned = [v for part in parts for weights in part._primitive_weights for v in weights]
    owned += model.get_layer("predictions").weights
    for variable, weight in zip(owned, specs, strict=True):
        size = math.prod(weight.shape)
        values, left[weight.trainable] = np.split(left[weight.trainable], [size])
        variable.assign(values.reshape(weight.shape))
    return model
