"""The calls of a model's layers, and copies of models in which some layers are others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from nasnet_zoo.network import functional

#: Values of a layer's weights by their names.
Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Call:
    """A call of a layer, or of an operation of `keras.ops`.

    Args:
        layer: The layer.
        inputs: Symbolic tensors that it reads.
        outputs: Symbolic tensors that it makes.
        options: Arguments by name, such as ``training``. Default: none.
    """

    layer: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


class Calls:
    """The calls of a model, each after those that it reads.

    Args:
        model: Functional model, or a Sequential with an Input.

    Raises:
        ValueError: If it is neither.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = functional(model)
        by_depth = self.model._nodes_by_depth
        nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
        self._calls = [_call(node) for node in nodes]
        self._maker = {id(made): call for call in self._calls for made in call.outputs}
        self._names = {call.layer.name for call in self._calls}

    def __iter__(self) -> Iterator[Call]:
        return iter(self._calls)

    def find(self, name: str) -> Call:
        """Return the call of a layer.

        Raises:
            ValueError: If there is no such layer, or it is called several times or on several tensors.
        """
        found = [call for call in self._calls if call.layer.name == name and call.inputs]
        if not found:
            raise ValueError(f"Expected the name of a layer of {self.model.name!r}. Received: {name!r}")
        if len(found) > 1:
            raise ValueError(f"Expected a layer that is called once. Received: {name!r}")
        return found[0]

    def maker(self, tensor: Any) -> Call:
        """Return the call that makes a tensor."""
        return self._maker[id(tensor)]

    def readers(self, tensor: Any) -> list[Call]:
        """Return the calls that read a tensor."""
        return [call for call in self._calls if any(tensor is read for read in call.inputs)]

    def is_output(self, tensor: Any) -> bool:
        """Whether a tensor is an output of the model."""
        return any(tensor is output for output in self.model.outputs)

    def next(self, call: Call) -> Call | None:
        """Return the call that alone reads what this one makes, and reads nothing else, if any."""
        readers = self.readers(call.outputs[0])
        alone = len(readers) == 1 and len(readers[0].inputs) == 1
        return readers[0] if alone and not self.is_output(call.outputs[0]) else None

    def new_name(self, name: str) -> str:
        """Return a name that no layer has, ``name`` with a number if need be, and reserve it."""
        unique, number = name, 1
        while unique in self._names:
            number += 1
            unique = f"{name}_{number}"
        self._names.add(unique)
        return unique

    def rebuilt(self, replacements: Mapping[str, Callable[..., Any]]) -> keras.Model:
        """Copy the model, calling functions in the places of some of its layers.

        Args:
            replacements: The functions, from tensors to tensors, by the names of the layers.

        Returns:
            A model with weights of its own. It is compiled as the model is.
        """
        called = dict(replacements)

        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            return called.setdefault(layer.name, Copy(layer))(*args, **kwargs)

        return keras.models.clone_model(
            self.model, clone_function=lambda layer: layer, call_function=call
        )


def _call(node: Any) -> Call:
    options = {name: value for name, value in node.arguments.kwargs.items() if value is not None}
    return Call(node.operation, tuple(node.input_tensors), tuple(node.outputs), options)


class Copy:
    """A copy of a layer, made when it is first called.

    Args:
        layer: Layer of a model, or operation of `keras.ops`.
        weights: Values of the copy's weights. Default: those of the layer.
        **config: Other arguments of the layer than its own.

    Attributes:
        made: The copy, once it was called.
    """

    def __init__(self, layer: Any, weights: Weights | None = None, /, **config: Any) -> None:
        self.layer = layer
        self.weights = weights
        self.config = config
        self.made: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the copy."""
        if self.made is not None:
            return self.made(*args, **kwargs)
        self.made = type(self.layer).from_config({**self.layer.get_config(), **self.config})
        outputs = self.made(*args, **kwargs)
        if self.weights is not None:
            self.made.set_weights([self.weights[weight.name] for weight in self.made.weights])
        elif isinstance(self.layer, keras.Layer):
            _copy_state(self.layer, self.made)
        return outputs


def _copy_state(layer: keras.Layer, copy: keras.Layer) -> None:
    """Copy the weights of a layer and of those inside it as a file would."""
    for old, new in zip(layer._flatten_layers(), copy._flatten_layers(), strict=True):
        store: dict[str, Any] = {}
        old.save_own_variables(store)
        new.load_own_variables(store)


def weights_of(layer: Any) -> Weights:
    """Return the values of a layer's weights by their names; operations of `keras.ops` have none."""
    weights = getattr(layer, "weights", ())
    return {weight.name: keras.ops.convert_to_numpy(weight) for weight in weights}


def in_order(functions: Sequence[Callable[[Any], Any]], x: Any) -> Any:
    """Apply functions one after the other."""
    for function in functions:
        x = function(x)
    return x
