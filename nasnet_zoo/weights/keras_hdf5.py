"""Weights of `keras.applications.NASNet*` in Keras's legacy HDF5 format.

That is the format of the published files, of ``save_weights("x.h5")`` in Keras 2 and of
``save("x.h5")`` in any Keras. Every layer that owns weights has a name of its own, so neither the
automatic numbers of others (``activation_17``) nor the order of layers matters.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import h5py
import keras

from nasnet_zoo.network import STACKS

from .hdf5 import datasets, open_hdf5
from .mapping import TENSORFLOW_BATCH_NORM, Source, Target, by_table

#: Our weight -> Keras's layer and weight. ``{kind}`` is "normal" or "reduction", ``{id}`` Keras's
#: number of the cell, ``{place}`` its word for an operation of a block.
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


def _ids(model: keras.Model) -> dict[str, str]:
    """Keras's numbers: reduction cells are counted with the normal ones, the first one twice.

    With N cells in a stack: 0..N-1, reduce_N, N+1..2N, reduce_2N, 2N+1..3N.
    """
    count = sum(layer.name.startswith("Cell_") for layer in model.layers)
    stack = count // STACKS
    return {
        "Stem_Cell_0": "stem_1",
        "Stem_Cell_1": "stem_2",
        "Reduction_Cell_0": f"reduce_{stack}",
        "Reduction_Cell_1": f"reduce_{2 * stack}",
        **{f"Cell_{k}": str(k if k < stack else k + 1) for k in range(count)},
    }


def _fields(target: Target, ids: Mapping[str, str]) -> dict[str, str]:
    kind = "normal" if target.layer.startswith("Cell_") else "reduction"
    fields = {"kind": kind, "id": ids.get(target.layer, "")}
    if "side" in target.fields:
        number = int(target.fields["block"]) + 1
        # Keras calls the left side of a reduction cell's fifth block by the fourth's name.
        if kind == "reduction" and number == 5:
            number = 4
        fields["place"] = f"{kind}_{target.fields['side']}{number}"
    return fields


def _by_layer(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Data sets by ``<layer>/<weight>``.

    The paths are ``<layer>/[<scopes>/]<variable scope>/<weight>[:0]``, below ``model_weights`` if
    the file holds a whole model. The variable scope repeats the layer's name, with a number after
    it where TensorFlow 1 had met the name before. Where a model was used as a layer, the first part
    is that model's name and only the variable scope says which layer it is.
    """
    paths = {
        path.removeprefix("model_weights/"): data
        for path, data in datasets(file).items()
        if "/" in path and not path.startswith("optimizer_weights/")
    }
    scopes: dict[str, set[str]] = {}
    for path in paths:
        scopes.setdefault(path.split("/")[0], set()).add(path.split("/")[-2])
    found = {}
    for path, data in paths.items():
        parts = path.split("/")
        layer = parts[0] if len(scopes[parts[0]]) == 1 else parts[-2]
        found[f"{layer}/{parts[-1].removesuffix(':0')}"] = data
    return found


@contextmanager
def open_keras_hdf5(path: str | os.PathLike[str], model: keras.Model) -> Iterator[Source]:
    """A file of Keras's as a source for ``model``.

    Raises:
        ValueError: if it is not an HDF5 file.
    """
    ids = _ids(model)
    with open_hdf5(path) as file:
        weights = _by_layer(file)
        yield Source(
            title=f"Keras HDF5 file {os.fspath(path)}",
            shapes={name: tuple(data.shape) for name, data in weights.items()},
            read=lambda name: weights[name][()],
            name_of=by_table(TABLE, TENSORFLOW_BATCH_NORM, lambda target: _fields(target, ids)),
            heads=("predictions/",),
        )
