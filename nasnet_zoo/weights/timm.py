"""State dicts of timm's ``nasnetalarge`` as ``.safetensors`` files.

PyTorch keeps a convolution's kernel as (output, input, height, width), a depthwise one as (channels,
1, height, width) and a linear layer's as (output, input); ours are (height, width, input, output),
(height, width, channels, 1) and (input, output).

timm's strided average pools count the padding as zeros, which the training of these weights did not;
our default is the trained function.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from nasnet_zoo.extras import import_extra
from nasnet_zoo.files import reading

from .mapping import Shape, Source, by_table
from .slim import cell_scope

#: Our weight -> timm's parameter or buffer.
TABLE = {
    "Stem_Conv/sequence-0-kernel": "conv0.conv.weight",
    "Stem_Conv/sequence-1-bn_{bn}": "conv0.bn.{bn}",
    "{cell}/state_0-1-kernel": "{cell}.conv_1x1.conv.weight",
    "{cell}/state_0-2-bn_{bn}": "{cell}.conv_1x1.bn.{bn}",
    "{cell}/state_1-1-kernel": "{cell}.conv_prev_1x1.conv.weight",
    "{cell}/state_1-2-bn_{bn}": "{cell}.conv_prev_1x1.bn.{bn}",
    "{cell}/state_1_path_1-0-kernel": "{cell}.path_1.conv.weight",
    "{cell}/state_1_path_2-1-kernel": "{cell}.path_2.conv.weight",
    "{cell}/state_1-0-bn_{bn}": "{cell}.final_path_bn.{bn}",
    "{cell}/block_{block}_{side}-1-depthwise_kernel": (
        "{cell}.comb_iter_{block}_{side}.separable_1.depthwise_conv2d.weight"
    ),
    "{cell}/block_{block}_{side}-2-kernel": (
        "{cell}.comb_iter_{block}_{side}.separable_1.pointwise_conv2d.weight"
    ),
    "{cell}/block_{block}_{side}-3-bn_{bn}": "{cell}.comb_iter_{block}_{side}.bn_sep_1.{bn}",
    "{cell}/block_{block}_{side}-5-depthwise_kernel": (
        "{cell}.comb_iter_{block}_{side}.separable_2.depthwise_conv2d.weight"
    ),
    "{cell}/block_{block}_{side}-6-kernel": (
        "{cell}.comb_iter_{block}_{side}.separable_2.pointwise_conv2d.weight"
    ),
    "{cell}/block_{block}_{side}-7-bn_{bn}": "{cell}.comb_iter_{block}_{side}.bn_sep_2.{bn}",
    "predictions/kernel": "last_linear.weight",
    "predictions/bias": "last_linear.bias",
}

BATCH_NORM = {
    "scale": "weight",
    "offset": "bias",
    "mean": "running_mean",
    "variance": "running_var",
}

_FLOATS = ("F64", "F32", "F16", "BF16")


def _axes(name: str, rank: int) -> tuple[int, ...]:
    """Which of PyTorch's axes are ours, in our order."""
    if rank == 4:
        return (2, 3, 0, 1) if ".depthwise_conv2d." in name else (2, 3, 1, 0)
    return tuple(reversed(range(rank)))


def our_shape(name: str, shape: Shape) -> Shape:
    """The shape, in our layout, of timm's tensor ``name`` of ``shape``."""
    return tuple(shape[axis] for axis in _axes(name, len(shape)))


@contextmanager
def open_timm(path: str | os.PathLike[str]) -> Iterator[Source]:
    """Open a ``.safetensors`` file as a source.

    Raises:
        ImportError: If the optional library safetensors is not installed.
        ValueError: If the file is damaged.
        OSError: If it cannot be read.
    """
    safetensors = import_extra("safetensors", "timm")
    try:
        with reading(path, "a safetensors file"):
            file = safetensors.safe_open(path, framework="numpy")
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: expected a safetensors file. Received: {error}") from None
    with file:
        # PyTorch counts the batches that batch norm has seen; nothing reads the count.
        names = [name for name in file.keys() if not name.endswith(".num_batches_tracked")]  # noqa: SIM118

        def read(name: str) -> np.ndarray:
            dtype = file.get_slice(name).get_dtype()
            if dtype not in _FLOATS:
                raise ValueError(
                    f"{path}: expected floating-point numbers. Received: {name} of type {dtype}"
                )
            value = file.get_tensor(name)
            return value.transpose(_axes(name, value.ndim))

        yield Source(
            title=f"timm state dict {os.fspath(path)}",
            shapes={name: our_shape(name, tuple(file.get_slice(name).get_shape())) for name in names},
            read=read,
            name_of=by_table(TABLE, BATCH_NORM, cell_scope),
            heads=("last_linear.",),
            has_background=True,
        )
