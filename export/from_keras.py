"""From a trained Keras model to its inference graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from nasnet_zoo.cells.layers import GraphLayer
from nasnet_zoo.cells.primitives import MERGES, Primitive, inference_affine
from nasnet_zoo.network import AuxiliaryHead, functional, inference_model

from .graph import KINDS, InferenceGraph, Op, ValueShape


class UnsupportedModel(ValueError):  # noqa: N818
    """A model with layers that the inference graph does not know; the official converter may."""


def inference_graph(model: keras.Model, image_size: tuple[int, int] | None = None) -> InferenceGraph:
    """The inference graph of a model of the zoo, of its backbone, or of a simple head on it.

    An auxiliary head, dropout and drop path are left out.

    Args:
        model: Functional model with one image input.
        image_size: (height, width) in pixels. Needed where the model leaves them open.

    Raises:
        UnsupportedModel: If the model has another kind of layer.
        ValueError: If the image's size is open or contradicts the model's.
    """
    model = inference_model(functional(model))
    shape = image_shape(model, image_size)
    build = _Builder(shape)
    values = build.run(model, ["image"])
    graph = InferenceGraph("image", shape, tuple(build.ops), tuple(values))
    if "image" in graph.outputs or not graph.ops:
        raise UnsupportedModel("Expected a model that computes something. Received: one without layers")
    return graph.with_ops(graph.ops)


def pooled_graph(model: keras.Model, size: int) -> InferenceGraph:
    """The inference graph of a model of several maps, which reads them joined and gives its mean.

    Args:
        model: Functional model of maps of one size, with one map as output.
        size: Height and width of the maps in pixels.
    """
    counts = [tensor.shape[-1] for tensor in model.inputs]
    build = _Builder((size, size, sum(counts)))
    states = []
    for number, count in enumerate(counts):
        before = sum(counts[:number])
        channels = (-before, before + count - sum(counts))
        states.append(build.add("pad", ["image"], f"state_{number}", channels=channels))
    values = build.run(inference_model(functional(model)), states)
    output = build.add("mean", values, "pooled")
    return InferenceGraph("image", build.shapes["image"], tuple(build.ops), (output,))


def rescales(model: keras.Model) -> bool:
    """Whether a model has a layer that scales images, and so takes them as files hold them."""
    return any(isinstance(layer, keras.layers.Rescaling) for layer in model._flatten_layers())


def image_shape(model: keras.Model, image_size: tuple[int, int] | None) -> ValueShape:
    """The (height, width, channels) of the images that a model takes.

    Raises:
        ValueError: If it has no single image input, or a size is open or contradicted.
    """
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4 or not model.outputs:
        raise ValueError(
            "Expected a model with one image input. "
            f"Received: inputs {[tuple(tensor.shape) for tensor in model.inputs]}"
        )
    known = model.inputs[0].shape[1:]
    given = (*(image_size or known[:2]), known[2])
    if None in given:
        raise ValueError(
            "Expected image_size, the height and width in pixels (--image-size), for a model that "
            "leaves them open. "
            f"Received: image_size={image_size}, a model of images {known}"
        )
    if any(k not in (None, g) for k, g in zip(known, given, strict=True)) or min(given) < 1:
        raise ValueError(f"Expected images of {known}. Received: image_size={image_size}")
    return tuple(int(n) for n in given)


class _Builder:
    """Collects operations; knows the shape of every value named so far."""

    def __init__(self, shape: ValueShape) -> None:
        self.ops: list[Op] = []
        self.shapes: dict[str, ValueShape] = {"image": shape}

    def add(self, kind: str, inputs: list[str], name: str, **fields: Any) -> str:
        """Append an operation and return the name of its value."""
        if kind not in KINDS:
            raise ValueError(f"Expected a kind of {', '.join(KINDS)}. Received: {kind!r} of {name}")
        output, number = name, 1
        while output in self.shapes:
            number += 1
            output = f"{name}_{number}"
        op = Op(kind, output, tuple(inputs), **fields)
        made = op.output_shape([self.shapes[value] for value in inputs])
        if min(made) < 1:
            raise ValueError(
                f"Expected an image large enough for {name}. Received: {self.shapes['image']}"
            )
        self.ops.append(op)
        self.shapes[output] = made
        return output

    # === Keras models ===

    def run(self, model: keras.Model, inputs: list[str], prefix: str = "") -> list[str]:
        """The values of a model's outputs, for values of its inputs."""
        known = {id(t): v for t, v in zip(model.inputs, inputs, strict=True)}
        # Keras lists operations in an order in which each comes after its inputs.
        for layer in model.operations:
            for node in layer._inbound_nodes:
                if not all(id(tensor) in known for tensor in node.input_tensors):
                    continue
                values = [known[id(tensor)] for tensor in node.input_tensors]
                made = self.layer(layer, values, f"{prefix}{layer.name}") if values else []
                known.update(zip(map(id, node.outputs), made, strict=False))
        return [known[id(tensor)] for tensor in model.outputs]

    def layer(self, layer: Any, inputs: list[str], name: str) -> list[str]:
        """The values that a layer makes."""
        if isinstance(layer, GraphLayer) and not isinstance(layer, AuxiliaryHead):
            return self.graph_layer(layer, inputs, name)
        if isinstance(layer, keras.Model) and getattr(layer, "operations", None):
            return self.run(layer, inputs, f"{name}/")
        simple = _LAYERS.get(type(layer).__name__)
        if simple is None:
            raise UnsupportedModel(
                "Expected layers of the zoo and simple heads on them (converter='official' takes any). "
                f"Received: a layer {layer.name!r} of class {type(layer).__name__}"
            )
        return [simple(self, layer, inputs, name)]

    def activation(self, function: Any, value: str, name: str) -> str:
        """An activation function of Keras."""
        kind = getattr(function, "__name__", None)
        if function is None or kind == "linear":
            return value
        if kind not in ("relu", "softmax", "sigmoid"):
            raise UnsupportedModel(
                f"Expected an activation relu, softmax or sigmoid. Received: {kind} of {name}"
            )
        return self.add(kind, [value], f"{name}/{kind}")

    # === Graphs of primitives ===

    def graph_layer(self, layer: GraphLayer, inputs: list[str], name: str) -> list[str]:
        """Everything inside a layer of ours."""
        states = dict(zip(layer.graph.inputs, inputs, strict=True))
        weights = iter(layer._primitive_weights)
        for node in layer.graph.nodes:
            values, build = [states[value] for value in node.inputs], _Node(self, f"{name}/{node.name}")
            value = MERGES[node.merge].lower(build, values) if node.merge else values[0]
            for primitive in node.primitives:
                arrays = [_array(weight) for weight in next(weights)]
                if type(primitive).lower is Primitive.lower:
                    raise UnsupportedModel(
                        "Expected primitives with a method lower (converter='official' takes any). "
                        f"Received: {primitive} of {name}/{node.name}"
                    )
                value = primitive.lower(build, value, arrays, layer.hyperparameters)
            states[node.name] = value
        return [states[value] for value in layer.graph.outputs]


class _Node:
    """The `GraphBuilder` of a node of a cell, whose name starts the names of its values."""

    def __init__(self, build: _Builder, name: str) -> None:
        self._build, self._name = build, name

    def shape(self, value: str) -> tuple[int, int, int]:
        height, width, channels = self._build.shapes[value]
        return height, width, channels

    def add(self, kind: str, *inputs: str, name: str | None = None, **fields: Any) -> str:
        return self._build.add(kind, list(inputs), f"{self._name}/{name or kind}", **fields)


def _array(weight: Any) -> np.ndarray:
    array = np.asarray(keras.ops.convert_to_numpy(weight), np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"Expected finite weights. Received: {weight.path} with infinity or NaN")
    return array


# === Layers of Keras ===


def _pass(build: _Builder, layer: Any, inputs: list[str], name: str) -> str:
    return inputs[0]


def _relu(build: _Builder, layer: Any, inputs: list[str], name: str) -> str:
    if layer.max_value is not None or layer.negative_slope or layer.threshold:
        raise UnsupportedModel(f"Expected a plain ReLU. Received: {layer.get_config()}")
    return build.add("relu", inputs, name)


def _dense(build: _Builder, layer: Any, inputs: list[str], name: str) -> str:
    bias = _array(layer.bias) if layer.use_bias else None
    value = build.add("dense", inputs, name, kernel=_array(layer.kernel), bias=bias)
    return build.activation(layer.activation, value, name)


def _reduce(kind: str) -> Callable[..., str]:
    def build_reduce(build: _Builder, layer: Any, inputs: list[str], name: str) -> str:
        if layer.keepdims or layer.data_format != "channels_last":
            raise UnsupportedModel(f"Expected keepdims=False. Received: {layer.get_config()}")
        return build.add(kind, inputs, name)

    return build_reduce


def _concatenate(build: _Builder, layer: Any, inputs: list[str], name: str) -> str:
    if layer.axis not in (-1, len(build.shapes[inputs[0]])):
        raise UnsupportedModel(f"Expected a concatenation of channels. Received: axis={layer.axis}")
    return build.add("concat", inputs, name)


def _add(build: _Builder, layer: Any, inputs: list[str], name: str) -> str:
    value = inputs[0]
    for other in inputs[1:]:
        if build.shapes[value] != build.shapes[other]:
            raise UnsupportedModel(f"Expected states of one shape to add. Received: {name}")
        value = build.add("add", [value, other], name)
    return value


def _batch_norm(build: _Builder, layer: Any, inputs: list[str], name: str) -> str:
    if layer.axis not in (-1, len(build.shapes[inputs[0]])):
        raise UnsupportedModel(f"Expected batch norm of channels. Received: axis={layer.axis}")
    mean, variance = _array(layer.moving_mean), _array(layer.moving_variance)
    scale = _array(layer.gamma) if layer.scale else np.ones_like(mean)
    offset = _array(layer.beta) if layer.center else np.zeros_like(mean)
    factor, bias = inference_affine(scale, offset, mean, variance, layer.epsilon)
    return build.add("scale", inputs, name, kernel=factor, bias=bias)


def _rescaling(build: _Builder, layer: Any, inputs: list[str], name: str) -> str:
    channels = build.shapes[inputs[0]][-1]
    factor, bias = (
        np.broadcast_to(np.asarray(value, np.float32), channels).copy()
        for value in (layer.scale, layer.offset)
    )
    return build.add("scale", inputs, name, kernel=factor, bias=bias)


# Layers that pass on what they read at inference.
_ONLY_IN_TRAINING = (
    *("Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise", "Identity"),
    *("ActivityRegularization", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom"),
    *("RandomBrightness", "RandomContrast", "RandomColorDegeneration", "RandomColorJitter"),
    *("RandomErasing", "RandomGaussianBlur", "RandomGrayscale", "RandomHue", "RandomInvert"),
    *("RandomPerspective", "RandomPosterization", "RandomSaturation", "RandomSharpness", "RandomShear"),
    *("AutoContrast", "RandAugment", "AugMix", "CutMix", "MixUp"),
)


#: How layers of Keras that stand around ours are read, by their class.
_LAYERS: dict[str, Callable[[_Builder, Any, list[str], str], str]] = {
    "ReLU": _relu,
    "Activation": lambda build, layer, inputs, name: build.activation(
        layer.activation, inputs[0], name
    ),
    "Softmax": lambda build, layer, inputs, name: build.add("softmax", inputs, name),
    **dict.fromkeys(_ONLY_IN_TRAINING, _pass),
    "Dense": _dense,
    "GlobalAveragePooling2D": _reduce("mean"),
    "GlobalMaxPooling2D": _reduce("max"),
    "Concatenate": _concatenate,
    "Add": _add,
    "BatchNormalization": _batch_norm,
    "Rescaling": _rescaling,
}
