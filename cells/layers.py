"""Keras layers that compute graphs of primitives: a cell, or a single operation.

`GraphLayer` is the only implementation: it owns the weights of its graph's primitives and runs the
graph. Subclasses define the graph.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras import ops

from .base_blocks import BaseBlock
from .drop_path import ScheduledDropPath, per_sample
from .genotype import CellGenotype
from .graph import Graph, cell_graph, join_graph, operation_graph, sequence_graph
from .layerwise import LayerGenotype, layer_graph
from .operations import OPERATIONS, Primitives
from .primitives import (
    IMAGENET,
    MERGES,
    Hyperparameters,
    LearnedGroupConv,
    Primitive,
    Shape,
    Weight,
)


def _image_shapes(input_shape: Any) -> list[Shape]:
    """Return (height, width, channels) of each input."""
    shapes = input_shape if isinstance(input_shape[0], (tuple, list)) else [input_shape]
    for shape in shapes:
        if len(shape) != 4 or shape[-1] is None:
            raise ValueError(
                f"Expected shapes (batch, height, width, channels). Received: {input_shape}"
            )
    return [(shape[1], shape[2], shape[3]) for shape in shapes]


class _Draws:
    """Initial values of all kernels of a layer from one draw, which costs less than one for each.

    The draw is made when the first kernel is initialised, so that a layer can be built while a
    backend traces.

    Args:
        size: Number of values in all kernels.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0

    @functools.cached_property
    def _values(self) -> np.ndarray:
        draws = keras.random.truncated_normal((self._size,), dtype="float32")
        return ops.convert_to_numpy(draws)

    def initializer(self, shape: tuple[int, ...], stddev: float) -> Callable[..., np.ndarray]:
        """Return the initializer of the next kernel."""
        start = self._taken
        self._taken = stop = start + math.prod(shape)
        return lambda shape, dtype: (self._values[start:stop].reshape(shape) * stddev).astype(dtype)


class _Lasso(keras.Regularizer):
    """Regularizer of the kernel of a `LearnedGroupConv`.

    Args:
        hyper: Constants of the network.
        primitive: The convolution.
        mask: Its mask.
    """

    def __init__(self, hyper: Hyperparameters, primitive: LearnedGroupConv, mask: Any) -> None:
        self._hyper, self._primitive, self._mask = hyper, primitive, mask

    def __call__(self, x: Any) -> Any:
        mask = ops.convert_to_tensor(self._mask)
        lasso = self._hyper.group_lasso * self._primitive.group_lasso(x, mask)
        decay = self._hyper.regularizer()
        return lasso + decay(x) if decay else lasso


def run_graph(
    graph: Graph,
    inputs: Sequence[Any],
    weights: Sequence[Sequence[Any]],
    training: bool,
    hyper: Hyperparameters,
    keep: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[list[Any], list[Any]]:
    """Compute a graph, as a pure function of tensors.

    Args:
        graph: Graph to compute.
        inputs: Tensor (batch, height, width, channels) for each input of the graph.
        weights: Weights of each primitive, in the order of `Graph.steps`.
        training: Whether batch norm uses the statistics of the batch.
        hyper: Constants of the network.
        keep: Multipliers (batch,) of drop path, by the names of their nodes.

    Returns:
        The outputs, and the new values of the weights that are not trainable (none unless
        ``training``).
    """
    states = dict(zip(graph.inputs, inputs, strict=True))
    updates: list[Any] = []
    owned = iter(weights)
    for node in graph.nodes:
        read = [states[name] for name in node.inputs]
        x = MERGES[node.merge](read) if node.merge else read[0]
        for primitive in node.primitives:
            x, moved = primitive(x, next(owned), training, hyper)
            updates += moved
        states[node.name] = x * per_sample(keep[node.name], x) if node.name in keep else x
    return [states[name] for name in graph.outputs], updates


class GraphLayer(keras.layers.Layer):
    """A layer that computes a `Graph`. Subclasses define `make_graph`.

    With ``trainable=False`` batch norm stays in inference mode, as in `keras.layers`.

    Args:
        hyperparameters: `Hyperparameters`, or a dict of its fields.
        drop_path: `ScheduledDropPath` of the graph's paths, or None.
        gradient_checkpointing: Whether to keep only the layer's inputs for the backward pass, which
            computes the rest again: less memory for more time. It applies with ``training=False`` too,
            which freezes batch norm alone.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor (batch, height, width, channels), or a list with one for each graph input. The
            output is a tensor, or a list if the graph has several outputs.
        training: Whether batch norm uses the statistics of the batch and drop path acts.
    """

    graph: Graph

    def __init__(
        self,
        hyperparameters: Hyperparameters | dict[str, float] = IMAGENET,
        drop_path: ScheduledDropPath | None = None,
        gradient_checkpointing: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(hyperparameters, dict):
            hyperparameters = Hyperparameters(**hyperparameters)
        self.hyperparameters = hyperparameters
        self.drop_path = drop_path
        self.gradient_checkpointing = gradient_checkpointing

    def make_graph(self, channels: Sequence[int]) -> Graph:
        """Return the graph for inputs of these channel counts."""
        raise NotImplementedError

    def build(self, input_shape: Any) -> None:
        shapes = _image_shapes(input_shape)
        self.graph = self.make_graph([shape[2] for shape in shapes])
        owned = [
            (f"{node.name}-{position}", primitive.weights(shape[2], node.filters))
            for node, position, primitive, shape in self.graph.steps(shapes)
        ]
        kernels = (math.prod(w.shape) for _, ws in owned for w in ws if w.role == "kernel")
        draws = _Draws(sum(kernels))
        self._primitive_weights = [
            [self._add(prefix, weight, draws) for weight in weights] for prefix, weights in owned
        ]
        for primitive, weights in self.primitives_with_weights():
            if isinstance(primitive, LearnedGroupConv) and self.hyperparameters.group_lasso:
                weights[0].regularizer = _Lasso(self.hyperparameters, primitive, weights[1])
        variables = (v for vs in self._primitive_weights for v in vs)
        roles = (w for _, ws in owned for w in ws)
        self._statistics = [v for v, w in zip(variables, roles, strict=True) if not w.trainable]

    def primitives_with_weights(self) -> Iterator[tuple[Primitive, list[keras.Variable]]]:
        """Yield the primitives in order, each with its weights."""
        primitives = (primitive for node in self.graph.nodes for primitive in node.primitives)
        yield from zip(primitives, self._primitive_weights, strict=True)

    def _add(self, prefix: str, weight: Weight, draws: _Draws) -> keras.Variable:
        is_kernel = weight.role == "kernel"
        initializer: Callable[..., np.ndarray] = functools.partial(np.full, fill_value=weight.initial)
        if is_kernel:
            stddev = self.hyperparameters.kernel_stddev(weight.shape, weight.groups)
            initializer = draws.initializer(weight.shape, stddev)
        return self.add_weight(
            name=f"{prefix}-{weight.name}",
            shape=weight.shape,
            initializer=initializer,
            regularizer=self.hyperparameters.regularizer() if is_kernel else None,
            trainable=weight.trainable,
            autocast=is_kernel,
        )

    def call(self, inputs: Any, training: bool | None = False) -> Any:
        training = bool(training) and self.trainable
        inputs = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        paths: list[str] = []
        multipliers = []
        if training and self.drop_path is not None:
            paths = [node.name for node in self.graph.nodes if node.drop_path]
            drawn = self.drop_path.multipliers(ops.shape(inputs[0])[0], len(paths))
            multipliers = [drawn[k] for k in range(len(paths))]
        weights = [ops.convert_to_tensor(v) for owned in self._primitive_weights for v in owned]

        def compute(*tensors: Any) -> tuple[Any, ...]:
            return self._compute(iter(tensors), paths, training)

        if self.gradient_checkpointing:
            # The backward pass runs this a second time. It is a pure function, so the statistics
            # still move once and both runs drop the same paths; and it reads copies of them, since
            # the second run comes after they have moved. (TensorFlow, run eagerly, counts the gradient
            # twice of what is a variable itself.)
            compute = keras.remat(compute)
            weights = [ops.copy(weight) for weight in weights]
        results = list(compute(*inputs, *multipliers, *weights))
        outputs = [results.pop(0) for _ in self.graph.outputs]
        if training:
            for variable, value in zip(self._statistics, results, strict=True):
                variable.assign(value)
        return outputs if len(outputs) > 1 else outputs[0]

    def _compute(self, tensors: Iterator[Any], paths: Sequence[str], training: bool) -> tuple[Any, ...]:
        """Run the graph on its inputs, the multipliers of ``paths`` and all weights, in that order.

        Returns the outputs, and in training the new values of the statistics.
        """
        inputs = [next(tensors) for _ in self.graph.inputs]
        keep = {name: next(tensors) for name in paths}
        weights = [[next(tensors) for _ in owned] for owned in self._primitive_weights]
        outputs, statistics = run_graph(
            self.graph, inputs, weights, training, self.hyperparameters, keep
        )
        return *outputs, *statistics

    def compute_output_shape(self, input_shape: Any) -> Any:
        shapes = _image_shapes(input_shape)
        batch = input_shape[0][0] if isinstance(input_shape[0], (tuple, list)) else input_shape[0]
        graph = self.make_graph([shape[2] for shape in shapes])
        outputs = [(batch, *shape) for shape in graph.output_shapes(shapes)]
        return outputs if len(outputs) > 1 else outputs[0]

    def get_config(self) -> dict[str, Any]:
        drop_path = self.drop_path
        return {
            **super().get_config(),
            "hyperparameters": dataclasses.asdict(self.hyperparameters),
            "drop_path": drop_path and keras.saving.serialize_keras_object(drop_path),
            "gradient_checkpointing": self.gradient_checkpointing,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> GraphLayer:
        drop_path = config.get("drop_path")
        if isinstance(drop_path, dict):
            drop_path = keras.saving.deserialize_keras_object(drop_path)
        return cls(**{**config, "drop_path": drop_path})


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class Operation(GraphLayer):
    """A single operation of the search space.

    Args:
        operation: Name from `OPERATIONS`.
        filters: Number of output channels.
        stride: 1 or 2. Default: 1.
        **kwargs: Arguments of `GraphLayer`.

    Raises:
        ValueError: If the operation is unknown.

    Example::

        y = Operation("sep_5x5", filters=32, stride=2)(x)  # half the size, 32 channels
    """

    def __init__(self, operation: str, filters: int, stride: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if operation not in OPERATIONS:
            raise ValueError(f"Expected one of {', '.join(OPERATIONS)}. Received: {operation=}")
        self.operation = operation
        self.filters = filters
        self.stride = stride

    def make_graph(self, channels: Sequence[int]) -> Graph:
        return operation_graph(self.operation, self.filters, self.stride, channels[0])

    def get_config(self) -> dict[str, Any]:
        own = {"operation": self.operation, "filters": self.filters, "stride": self.stride}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class Cell(GraphLayer):
    """A cell of any genotype.

    Args:
        cell: `CellGenotype`, or its dict.
        filters: F, the channels of every operation's output.
        stride: 1 in a normal cell, 2 in a reduction cell. Default: 1.
        scales: Ratio of each input's size to that of ``h_i``, such as ``(1, 2)`` after a reduction.
            Default: all 1.
        **kwargs: Arguments of `GraphLayer`.

    Call arguments:
        inputs: List ``[h_i, h_{i-1}]``, or ``[h_i]`` in a first cell; four states for NASNet-B. The
            output is a tensor, or the list of labelled outputs for NASNet-B.

    Example::

        cell = Cell(NASNET_A.normal, filters=44)
        y = cell([h, h_previous])  # (batch, height, width, 264)
    """

    def __init__(
        self,
        cell: CellGenotype | dict[str, Any],
        filters: int,
        stride: int = 1,
        scales: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cell = CellGenotype.from_dict(cell) if isinstance(cell, dict) else cell
        self.filters = filters
        self.stride = stride
        self.scales = None if scales is None else tuple(scales)

    def make_graph(self, channels: Sequence[int]) -> Graph:
        scales = self.scales or (1,) * len(channels)
        return cell_graph(self.cell, self.filters, self.stride, channels, scales)

    def get_config(self) -> dict[str, Any]:
        own = {
            "cell": self.cell.to_dict(),
            "filters": self.filters,
            "stride": self.stride,
            "scales": self.scales,
        }
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class NASLayer(GraphLayer):
    """A layer of a layer-wise genotype.

    Args:
        layer: `LayerGenotype`, or its dict.
        merge: How its inputs are joined, see `LayerwiseGenotype.merge`. Default: None, it has one.
        **kwargs: Arguments of `GraphLayer`.

    Call arguments:
        inputs: List of the outputs of the layers that it reads, or of the image alone.
    """

    def __init__(
        self, layer: LayerGenotype | dict[str, Any], merge: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.layer = LayerGenotype.from_dict(layer) if isinstance(layer, dict) else layer
        self.merge = merge

    def make_graph(self, channels: Sequence[int]) -> Graph:
        return layer_graph(self.layer, self.merge, len(channels))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "layer": self.layer.to_dict(), "merge": self.merge}


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class JoinStates(GraphLayer):
    """Concatenates states.

    Args:
        scales: Ratio of each state's size to that of the first, to which larger ones are reduced.
        merge: "concat", or "padded_concat" to zero-pad smaller ones instead. Default: "concat".
        **kwargs: Arguments of `GraphLayer`.
    """

    def __init__(self, scales: Sequence[int], merge: str = "concat", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scales, self.merge = tuple(scales), merge

    def make_graph(self, channels: Sequence[int]) -> Graph:
        return join_graph(channels, self.scales, self.merge)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scales": self.scales, "merge": self.merge}


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class BlockLayer(GraphLayer):
    """A block of a base network, such as a `TreeCell`.

    Args:
        block: `BaseBlock`, or its dict.
        **kwargs: Arguments of `GraphLayer`.

    Example::

        layer = BlockLayer(TreeCell(TREECELL_A.root, filters=48))
        y = layer(x)  # (batch, height, width, 48)
    """

    def __init__(self, block: BaseBlock | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.block = BaseBlock.from_dict(block) if isinstance(block, dict) else block

    def make_graph(self, channels: Sequence[int]) -> Graph:
        return self.block.graph(channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "block": self.block.to_dict()}


class SequenceLayer(GraphLayer):
    """A layer that applies a fixed sequence of primitives, such as a stem or a head.

    Subclasses define `primitives`.
    """

    def primitives(self) -> Primitives:
        """Return the primitives, in order."""
        raise NotImplementedError

    def make_graph(self, channels: Sequence[int]) -> Graph:
        return sequence_graph(self.primitives(), 0)
