"""Pretrained weights: from ImageNet, Keras, TF-Slim, timm and our own files, at any input size."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import keras

from nasnet_zoo.checking import checked

from .imagenet import fetch_imagenet
from .keras_hdf5 import open_keras
from .mapping import Report, Source, copy_weights
from .slim import is_slim, open_slim
from .timm import open_timm

Background = Literal["drop", "keep"]

__all__ = ["Report", "load_weights"]

#: Weights that this package holds.
SHIPPED = ("fashion_mnist",)


@checked
def load_weights(
    model: keras.Model, weights: str | os.PathLike[str], background: Background = "drop"
) -> Report:
    """Load weights into a model of this package of any input size.

    The network (stem and cells) is loaded whole or not at all. A classifier for another number of
    classes, or a head that the source lacks, keeps its initial values; the report says so.

    Args:
        model: Model of this package.
        weights: "imagenet" for the published weights of NASNetMobile and NASNetLarge;
            "fashion_mnist" for those of NASNetA_1_384_FashionMNIST in this package; or the path of
            a ``.keras``, ``.weights.h5`` or ``.h5`` file that Keras wrote of a model of ours or of
            `keras.applications`, of a TF-Slim checkpoint (``model.ckpt``) or of timm's
            ``nasnetalarge`` as ``.safetensors``.
        background: Use of class 0, the background, of a 1001-class classifier of TF-Slim or timm:
            "drop" it for a model of 1000 classes, or "keep" it for one of 1001. Default: "drop".

    Returns:
        What was loaded, missing and unused.

    Raises:
        ValueError: If the file is of no known kind, or does not fit the network.
        OSError: If the file cannot be found or fetched.

    Example::

        model = NASNetMobile(input_shape=(160, 200, 3), classes=5)
        print(load_weights(model, "imagenet"))
    """
    path = weights
    if weights == "imagenet":
        path = fetch_imagenet(model)
    elif weights in SHIPPED:
        path = Path(__file__).with_name(f"{weights}.weights.h5")
    with _open(path, model) as source:
        return copy_weights(model, source, background)


def _open(path: str | os.PathLike[str], model: keras.Model) -> AbstractContextManager[Source]:
    name = os.fspath(path)
    if name.endswith((".pth", ".pt", ".bin")):
        raise ValueError(
            "Expected a .safetensors file, since loading a pickled state dict can run any code. "
            f"Received: {name}. Convert it once where you trust it: "
            "safetensors.torch.save_file(torch.load(path, weights_only=True), 'model.safetensors')"
        )
    if is_slim(name):
        return open_slim(name, model)
    if name.endswith((".keras", ".h5", ".hdf5")):
        return open_keras(name, model)
    if name.endswith(".safetensors"):
        return open_timm(name)
    raise ValueError(
        "Expected weights 'imagenet' or 'fashion_mnist', a .keras, .h5, .hdf5 or .safetensors file, or "
        f"the prefix of a TF checkpoint. Received: {name!r}"
    )
