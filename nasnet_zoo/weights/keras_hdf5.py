"""Files of Keras: weights of our models and of `keras.applications.NASNet*`.

Keras has two layouts. The legacy one is that of the published files, of ``save_weights("x.h5")`` in
Keras 2 and of ``save("x.h5")`` in any Keras; that of Keras 3 is in ``.keras`` and ``.weights.h5``
files. Both hold the names of layers. Every layer that owns weights has a name of its own, so neither
the automatic numbers of others (``activation_17``) nor the order of layers matters, and a file can be
loaded into a model with another classifier, without one, or with an auxiliary head.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import h5py
import keras

from nasnet_zoo.architecture import STEM, Place, layer_name
from nasnet_zoo.network import places_of

from .hdf5 import datasets, note, open_hdf5, read
from .mapping import TENSORFLOW_BATCH_NORM, Source, Target, by_table

#: Our weight -> layer and weight of `keras.applications`. ``{kind}`` is "normal" or "reduction",
#: ``{id}`` Keras's number of the cell, ``{place}`` its word for an operation of a block.
TABLE = {
    "Stem_Conv/sequence-0-kernel": "stem_conv1/kernel",
    "Stem_Conv/sequence-1-bn_{bn}": "stem_bn1/{bn}",
    "{cell}/state_0-1-kernel": "{kind}_conv_1_{id}/kernel",
    "{cell}/state_0-2-bn_{bn}": "{kind}_bn_1_{id}/{bn}",
    "{cell}/state_1-1-kernel": "adjust_conv_projection_{id}/kernel",
    "{cell}/state_1-2-bn_{bn}": "adjust_bn_{id}/{bn}",
    "{cell}/state_1_path_1-0-kernel": "adjust_conv_1_{id}/kernel",
    "{cell}/state_1_path_2-1-kernel": "adjust_conv_2_{id}/kernel",
    "{cell}/state_1-0-bn_{bn}": "adjust_bn_{id}/{bn}",
    "{cell}/block_{block}_{side}-1-depthwise_kernel": "separable_conv_1_{place}_{id}/depthwise_kernel",
    "{cell}/block_{block}_{side}-2-kernel": "separable_conv_1_{place}_{id}/pointwise_kernel",
    "{cell}/block_{block}_{side}-3-bn_{bn}": "separable_conv_1_bn_{place}_{id}/{bn}",
    "{cell}/block_{block}_{side}-5-depthwise_kernel": "separable_conv_2_{place}_{id}/depthwise_kernel",
    "{cell}/block_{block}_{side}-6-kernel": "separable_conv_2_{place}_{id}/pointwise_kernel",
    "{cell}/block_{block}_{side}-7-bn_{bn}": "separable_conv_2_bn_{place}_{id}/{bn}",
    "predictions/kernel": "predictions/kernel",
    "predictions/bias": "predictions/bias",
}


def _id(place: Place, stack: int) -> str:
    """Keras's number of a cell in a network of ``stack`` normal cells a stack.

    Reduction cells are counted with the normal ones, the first one twice: 0..N-1, reduce_N, N+1..2N,
    reduce_2N, 2N+1..3N.
    """
    if place.kind == "stem":
        return f"stem_{place.index + 1}"
    if place.kind == "reduction":
        return f"reduce_{place.stack * stack}"
    return str(place.index + (place.stack > 0))


def _fields(target: Target, stack: int) -> dict[str, str]:
    if target.place is None:
        return {}
    kind = "normal" if target.place.kind == "normal" else "reduction"
    fields = {"kind": kind, "id": _id(target.place, stack)}
    if "side" in target.fields:
        number = int(target.fields["block"]) + 1
        # Keras calls the left side of a reduction cell's fifth block by the fourth's name.
        if kind == "reduction" and number == 5:
            number = 4
        fields["place"] = f"{kind}_{target.fields['side']}{number}"
    return fields


# === Layouts ===

# Keras 3 counts the layers of a class, and the weights of a layer.
_KERAS_3 = re.compile(
    r"(?P<group>(?P<model>(?:.*/)?)layers/(?P<kind>[^/]+?)(?:_\d+)?)/vars/(?P<index>\d{1,6})"
)
_ORDER = {
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "conv2d": ("kernel",),
    "dense": ("kernel", "bias"),
    "separable_conv2d": ("depthwise_kernel", "pointwise_kernel"),
}
#: First layers of a network of ours.
_OURS = (STEM, layer_name(1))
_FIRST = (*_OURS, "stem_conv1")  # and of keras.applications


def _of_keras_3(
    found: Mapping[str, h5py.Dataset], path: str | os.PathLike[str]
) -> dict[str, h5py.Dataset]:
    """Data sets by ``<layer>/<weight>``, or ``<layer>/<number of the weight>`` for layers of ours.

    The paths are ``[<model>/]layers/<class>[_<number>]/vars/<number of the weight>``, and the group of
    a layer's weights notes its name. Weights outside the network keep their paths as names.
    """
    layers: dict[str, list[tuple[re.Match[str], h5py.Dataset]]] = {}
    for where, data in found.items():
        match = _KERAS_3.fullmatch(where)
        if match:
            layers.setdefault(match["group"], []).append((match, data))
    names = {group: note(weights[0][1], "name", path) for group, weights in layers.items()}
    networks = [layers[group][0][0]["model"] for group, name in names.items() if name in _FIRST]
    if len(networks) != 1:
        received = f"{len(networks)} of them" if networks else "a file of another model"
        if not any(names.values()):
            received = "a file without names of layers, from Keras before 3.6: save it with a newer one"
        raise ValueError(
            f"{os.fspath(path)}: expected the weights of one network of nasnet_zoo or of "
            f"keras.applications.NASNet. Received: {received}"
        )
    named = {}
    for group, weights in layers.items():
        order = _ORDER.get(weights[0][0]["kind"], ())
        for match, data in weights:
            index = match["index"]
            weight = order[int(index)] if len(order) == len(weights) > int(index) else index
            inside = match["model"] == networks[0]
            named[f"{names[group]}/{weight}" if inside else match[0]] = data
    return named


def _of_keras_2(found: Mapping[str, h5py.Dataset]) -> dict[str, h5py.Dataset]:
    """Data sets by ``<layer>/<weight>``.

    The paths are ``<layer>/[<scopes>/]<variable scope>/<weight>[:0]``, below ``model_weights`` if
    the file holds a whole model. The variable scope repeats the layer's name, with a number after
    it where TensorFlow 1 had met the name before. Where a model was used as a layer, the first part
    is that model's name and only the variable scope says which layer it is.
    """
    paths = {
        path.removeprefix("model_weights/"): data
        for path, data in found.items()
        if "/" in path and not path.startswith("optimizer_weights/")
    }
    scopes: dict[str, set[str]] = {}
    for path in paths:
        scopes.setdefault(path.split("/")[0], set()).add(path.split("/")[-2])
    named = {}
    for path, data in paths.items():
        parts = path.split("/")
        layer = parts[0] if len(scopes[parts[0]]) == 1 else parts[-2]
        named[f"{layer}/{parts[-1].removesuffix(':0')}"] = data
    return named


@contextmanager
def open_keras(path: str | os.PathLike[str], model: keras.Model) -> Iterator[Source]:
    """Open a file of Keras as a source for ``model``.

    Args:
        path: A ``.keras``, ``.weights.h5`` or ``.h5`` file of a model of ours or of
            `keras.applications`, or of a model that has one of them as a layer.
        model: Model to load into, whose cells have numbers in `keras.applications`.

    Raises:
        ValueError: If it is no such file, or holds the weights of another model or of several
            networks.
        OSError: If it cannot be read.
    """
    with open_hdf5(path) as file:
        found = datasets(file, path)
        new = any(_KERAS_3.fullmatch(where) for where in found)
        weights = _of_keras_3(found, path) if new else _of_keras_2(found)
        ours = any(name.split("/")[0] in _OURS for name in weights)
        name_of: Callable[[Target], str | None]
        if ours:

            def name_of(target: Target) -> str:
                return target.name if target.name in weights else f"{target.layer}/{target.index}"

        else:
            places = places_of(model).values()
            stack = sum(place.kind == "normal" and place.stack == 0 for place in places)
            name_of = by_table(TABLE, TENSORFLOW_BATCH_NORM, lambda target: _fields(target, stack))
        yield Source(
            title=f"{'nasnet_zoo' if ours else 'keras.applications'} weights in {os.fspath(path)}",
            shapes={name: tuple(data.shape) for name, data in weights.items()},
            read=lambda name: read(weights[name], path),
            name_of=name_of,
            heads=("predictions/", "auxiliary/"),
        )
