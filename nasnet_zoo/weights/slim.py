"""Checkpoints of the TF-Slim NASNet: the released models and what was trained with that code.

Names are the variable scopes of its ``nasnet.py`` and ``nasnet_utils.py``. Where a checkpoint has
moving averages of weights over training (``<name>/ExponentialMovingAverage``), those are loaded:
the published accuracies are theirs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np

from nasnet_zoo.architecture import STACKS
from nasnet_zoo.network import places_of

from .mapping import TENSORFLOW_BATCH_NORM, Source, Target, by_table

#: Our weight -> TF-Slim's variable. ``{last}`` is the number of the last cell before the second
#: reduction cell, which the auxiliary head reads.
TABLE = {
    "Stem_Conv/sequence-0-kernel": "conv0/weights",
    "Stem_Conv/sequence-1-bn_{bn}": "conv0_bn/{bn}",
    "{cell}/state_0-1-kernel": "{cell}/1x1/weights",
    "{cell}/state_0-2-bn_{bn}": "{cell}/beginning_bn/{bn}",
    "{cell}/state_1-1-kernel": "{cell}/prev_1x1/weights",
    "{cell}/state_1-2-bn_{bn}": "{cell}/prev_bn/{bn}",
    "{cell}/state_1_path_1-0-kernel": "{cell}/path1_conv/weights",
    "{cell}/state_1_path_2-1-kernel": "{cell}/path2_conv/weights",
    "{cell}/state_1-0-bn_{bn}": "{cell}/final_path_bn/{bn}",
    "{cell}/block_{block}_{side}-1-depthwise_kernel": (
        "{cell}/comb_iter_{block}/{side}/separable_{size}_1/depthwise_weights"
    ),
    "{cell}/block_{block}_{side}-2-kernel": (
        "{cell}/comb_iter_{block}/{side}/separable_{size}_1/pointwise_weights"
    ),
    "{cell}/block_{block}_{side}-3-bn_{bn}": "{cell}/comb_iter_{block}/{side}/bn_sep_{size}_1/{bn}",
    "{cell}/block_{block}_{side}-5-depthwise_kernel": (
        "{cell}/comb_iter_{block}/{side}/separable_{size}_2/depthwise_weights"
    ),
    "{cell}/block_{block}_{side}-6-kernel": (
        "{cell}/comb_iter_{block}/{side}/separable_{size}_2/pointwise_weights"
    ),
    "{cell}/block_{block}_{side}-7-bn_{bn}": "{cell}/comb_iter_{block}/{side}/bn_sep_{size}_2/{bn}",
    "predictions/kernel": "final_layer/FC/weights",
    "predictions/bias": "final_layer/FC/biases",
    "auxiliary/sequence-2-kernel": "aux_{last}/aux_logits/proj/weights",
    "auxiliary/sequence-3-bn_{bn}": "aux_{last}/aux_logits/aux_bn0/{bn}",
    "auxiliary/sequence-5-kernel": "aux_{last}/aux_logits/Conv/weights",
    "auxiliary/sequence-6-bn_{bn}": "aux_{last}/aux_logits/aux_bn1/{bn}",
    "auxiliary/sequence-9-kernel": "aux_{last}/aux_logits/FC/weights",
    "auxiliary/sequence-9-bias": "aux_{last}/aux_logits/FC/biases",
}

_AVERAGE = "/ExponentialMovingAverage"
# A training run's own variables: the optimiser's slots and the step counter.
_TRAINING = ("/RMSProp", "/RMSProp_1", "/Momentum", "/Adam", "/Adam_1", "global_step")


def is_slim(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` names a TF checkpoint: its prefix, or its ``.index`` file."""
    return os.path.exists(f"{os.fspath(path).removesuffix('.index')}.index")


def cell_scope(target: Target) -> dict[str, str]:
    """TF-Slim's scope of a weight's cell: ``cell_3``, ``reduction_cell_0``, ``cell_stem_0``."""
    if target.place is None:
        return {}
    prefix = {"normal": "cell", "reduction": "reduction_cell", "stem": "cell_stem"}[target.place.kind]
    return {"cell": f"{prefix}_{target.place.index}"}


@contextmanager
def open_slim(path: str | os.PathLike[str], model: keras.Model) -> Iterator[Source]:
    """Open a checkpoint as a source for ``model``.

    Args:
        path: The checkpoint's prefix (``model.ckpt``), or its ``.index`` file.
        model: Model to load into, of which one cell has the auxiliary head.

    Raises:
        ValueError: If the checkpoint is damaged.
    """
    # Only these checkpoints need TensorFlow; models run on other backends too.
    import tensorflow as tf

    prefix = os.fspath(path).removesuffix(".index")
    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes = {
            name: tuple(shape)
            for name, shape in reader.get_variable_to_shape_map().items()
            if not name.endswith(_TRAINING)
        }
        types = reader.get_variable_to_dtype_map()
    except (tf.errors.OpError, ValueError, LookupError, RuntimeError) as error:
        raise ValueError(f"{prefix}: expected a TensorFlow checkpoint. Received: {error}") from None
    averaged = {name.removesuffix(_AVERAGE) for name in shapes if name.endswith(_AVERAGE)}
    names = {name.removesuffix(_AVERAGE): shape for name, shape in shapes.items()}
    places = places_of(model).values()
    last = max((p.index for p in places if p.kind == "normal" and p.stack < STACKS - 1), default=0)

    def read(name: str) -> np.ndarray:
        stored = name + _AVERAGE if name in averaged else name
        if not types[stored].is_floating:
            raise ValueError(
                f"{prefix}: expected floating-point numbers. Received: {stored} of type "
                f"{types[stored].name}"
            )
        try:
            return reader.get_tensor(stored)
        except (tf.errors.OpError, ValueError, LookupError, RuntimeError) as error:
            raise ValueError(f"{prefix}: expected a whole checkpoint. Received: {error}") from None

    yield Source(
        title=f"TF-Slim checkpoint {prefix}",
        shapes=names,
        read=read,
        name_of=by_table(
            TABLE, TENSORFLOW_BATCH_NORM, lambda target: {**cell_scope(target), "last": str(last)}
        ),
        heads=("final_layer/", "aux_"),
        has_background=True,
    )
