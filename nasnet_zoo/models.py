"""The models: one builder for any genotype, and the papers' table as named builders."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from nasnet_zoo.cells import NASNET_A, NASNET_B, NASNET_C, Genotype, Hyperparameters
from nasnet_zoo.network import Architecture, build_model

InputShape = tuple[int | None, int | None, int]

_ARGUMENTS = """
    Args:
        input_shape: (height, width, channels); height and width may be None. Default: {default}
            with the classifier, (None, None, 3) without.
        include_top: whether to add global pooling, dropout and the classifier.
        weights: None for random initialisation, or the path of a ``.weights.h5`` file.
        input_tensor: a Keras tensor to build the model on, instead of a new input.
        pooling: without the classifier: None for the 4D features, "avg" or "max" for a vector.
        classes: number of classes.
        classifier_activation: "softmax", or None for logits.
        name: of the model.
        pool_padding: "same", what the published weights were trained with, or "keras", the
            zero-padded reduction pools of `keras.applications`.
        auxiliary_head: whether to add the auxiliary classifier as a second output, for training.
        drop_path_keep: ScheduledDropPath's final probability to keep a path, in (0, 1].
        drop_path_steps: training steps over which drop path grows; needed where it is below 1.
        hyperparameters: batch norm's constants and the like, if not the architecture's.

    Returns:
        A functional `keras.Model` from float images, scaled by `preprocess_input`, to class
        probabilities (with the auxiliary head: a list of two), features or vectors.

    Raises:
        ValueError: if an argument is out of range.
"""


def NASNet(
    genotype: Genotype | str | os.PathLike[str],
    cells: int,
    filters: int,
    stem: str = "imagenet",
    stem_filters: int = 32,
    *,
    skip_reduction_layer_input: bool = False,
    image_size: int | None = None,
    dropout: float = 0.0,
    name: str = "nasnet",
    **arguments: Any,
) -> keras.Model:
    """Builds the network of any genotype.

    Args:
        genotype: a `Genotype`, or the path of its JSON file.
        cells: N, normal cells in each of the three stacks.
        filters: F, filters of the first stack.
        stem: "imagenet" or "cifar".
        stem_filters: filters of the stem's convolution.
        skip_reduction_layer_input: see `Architecture`.
        image_size: pixels the network is meant for. Default: 224, or 32 with the CIFAR stem.
        dropout: rate before the classifier.
        name: of the model.
        **arguments: those of `NASNetMobile`.

    Example::

        model = NASNet("winner.json", cells=2, filters=16, stem="cifar", classes=10)
    """
    if not isinstance(genotype, Genotype):
        genotype = Genotype.load(genotype)
    architecture = Architecture(
        genotype, cells, filters, stem, stem_filters, skip_reduction_layer_input, image_size or 0, dropout
    )
    return _build(architecture, name=name, **arguments)


def _build(
    architecture: Architecture,
    input_shape: InputShape | None = None,
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    input_tensor: Any = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    *,
    pool_padding: str = "same",
    auxiliary_head: bool = False,
    drop_path_keep: float = 1.0,
    drop_path_steps: int | None = None,
    hyperparameters: Hyperparameters | None = None,
) -> keras.Model:
    if pool_padding not in ("same", "keras"):
        raise ValueError(f"Expected pool_padding 'same' or 'keras'. Received: {pool_padding=}")
    if pooling not in (None, "avg", "max"):
        raise ValueError(f"Expected pooling None, 'avg' or 'max'. Received: {pooling=}")
    if not isinstance(classes, int) or classes < 1:
        raise ValueError(f"Expected classes of at least 1. Received: {classes=}")
    if auxiliary_head and not include_top:
        raise ValueError("Expected include_top=True with auxiliary_head=True. Received: include_top=False")
    if not 0.0 < drop_path_keep <= 1.0:
        raise ValueError(f"Expected drop_path_keep in (0, 1]. Received: {drop_path_keep=}")
    if drop_path_keep < 1.0 and not drop_path_steps:
        raise ValueError(
            "Expected drop_path_steps, the number of training steps over which drop path grows, "
            f"with drop_path_keep below 1. Received: {drop_path_keep=}, {drop_path_steps=}"
        )
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "Expected keras.config.image_data_format() 'channels_last'. Received: 'channels_first'"
        )
    if pool_padding == "keras":
        genotype = architecture.genotype.with_zero_padded_pools()
        architecture = dataclasses.replace(architecture, genotype=genotype)
    if hyperparameters is not None:
        architecture = dataclasses.replace(architecture, hyperparameters=hyperparameters)
    model = build_model(
        architecture,
        inputs=_inputs(architecture, input_shape, include_top, input_tensor),
        include_top=include_top,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        auxiliary_head=auxiliary_head,
        drop_path_keep=drop_path_keep,
        drop_path_steps=drop_path_steps,
        name=name,
    )
    if weights is not None:
        if not os.fspath(weights).endswith(".weights.h5"):
            raise ValueError(
                f"Expected weights None or the path of a .weights.h5 file. Received: {weights=}"
            )
        model.load_weights(weights)
    return model


def _inputs(
    architecture: Architecture, shape: InputShape | None, include_top: bool, input_tensor: Any
) -> Any:
    """The input tensor of a model, checked."""
    if input_tensor is not None:
        if not keras.backend.is_keras_tensor(input_tensor):
            raise ValueError(f"Expected input_tensor a Keras tensor. Received: {input_tensor!r}")
        shape = tuple(input_tensor.shape[1:])
    elif shape is None:
        size = architecture.image_size if include_top else None
        shape = (size, size, 3)
    least = 3 if architecture.stem == "imagenet" else 1
    fits = len(shape) == 3 and isinstance(shape[2], int) and shape[2] > 0
    if not fits or any(size is not None and size < least for size in shape[:2]):
        raise ValueError(
            f"Expected an input shape (height, width, channels) of at least {least}x{least} pixels, "
            f"where height and width may be None. Received: {shape}"
        )
    return keras.Input(shape) if input_tensor is None else input_tensor


@dataclass(frozen=True)
class Preset:
    """A row of the papers' tables.

    Args:
        title: what the papers call it.
        architecture: what we build.
        classes: of its data set.
        parameters: published, in millions.
        mult_adds: published, in millions; None where the paper gives none.
        accuracy: published, as the paper prints it.
        reading: how the architecture was read off the papers, where they leave it open.
    """

    title: str
    architecture: Architecture
    classes: int
    parameters: float
    mult_adds: float | None
    accuracy: str
    reading: str = ""


def _imagenet(genotype: Genotype, cells: int, filters: int, stem_filters: int, size: int) -> Architecture:
    return Architecture(genotype, cells, filters, "imagenet", stem_filters, image_size=size, dropout=0.5)


def _cifar(genotype: Genotype, cells: int, filters: int, stem_filters: int) -> Architecture:
    return Architecture(genotype, cells, filters, "cifar", stem_filters)


_B_READING = (
    "No reading of the appendix meets the published figures exactly. Taken: separable convolutions "
    "applied once and inputs adapted only where the resolution differs"
)

#: The rows of the papers' tables, by model name.
PRESETS: dict[str, Preset] = {
    "nasnet_mobile": Preset(
        title="NASNet-A (4 @ 1056), Mobile",
        architecture=_imagenet(NASNET_A, 4, 44, 32, 224),
        classes=1000,
        parameters=5.3,
        mult_adds=564,
        accuracy="74.0 / 91.6 %",
    ),
    "nasnet_large": Preset(
        title="NASNet-A (6 @ 4032), Large",
        architecture=dataclasses.replace(
            _imagenet(NASNET_A, 6, 168, 96, 331), skip_reduction_layer_input=True
        ),
        classes=1000,
        parameters=88.9,
        mult_adds=23800,
        accuracy="82.7 / 96.2 %",
    ),
    "nasnet_a_5_1538": Preset(
        title="NASNet-A (5 @ 1538)",
        architecture=_imagenet(NASNET_A, 5, 60, 64, 299),
        classes=1000,
        parameters=10.9,
        mult_adds=2350,
        accuracy="78.6 / 94.2 %",
        reading="1538 is not a multiple of 24 (F = 64, from 1536, gives 12.2 M parameters): "
        "F = 60 with a stem of 64 filters comes nearest to the published cost.",
    ),
    "nasnet_a_7_1920": Preset(
        title="NASNet-A (7 @ 1920)",
        architecture=_imagenet(NASNET_A, 7, 76, 96, 299),
        classes=1000,
        parameters=22.6,
        mult_adds=4930,
        accuracy="80.8 / 95.3 %",
        reading="F = 80, from 1920 / 24, gives 24.6 M parameters: F = 76 with a stem of 96 filters "
        "comes nearest to the published cost.",
    ),
    "nasnet_b_4_1536": Preset(
        title="NASNet-B (4 @ 1536)",
        architecture=_imagenet(NASNET_B, 3, 81, 32, 224),
        classes=1000,
        parameters=5.3,
        mult_adds=488,
        accuracy="72.8 / 91.3 %",
        reading=f"{_B_READING}; three normal cells a stack (N seems to count the reduction cell) "
        "and F = 81, which come nearest to the published cost.",
    ),
    "nasnet_c_3_960": Preset(
        title="NASNet-C (3 @ 960)",
        architecture=_imagenet(NASNET_C, 2, 48, 96, 224),
        classes=1000,
        parameters=4.9,
        mult_adds=558,
        accuracy="72.5 / 91.0 %",
        reading="A normal cell gives 5F channels, so F = 960 / 20 = 48. Two normal cells a stack "
        "(N seems to count the reduction cell) give the published cost, three give 6.4 M parameters.",
    ),
    "nasnet_a_6_768_cifar": Preset(
        title="NASNet-A (6 @ 768), CIFAR-10",
        architecture=_cifar(NASNET_A, 6, 32, 96),
        classes=10,
        parameters=3.3,
        mult_adds=None,
        accuracy="3.41 % error (2.65 % with cutout)",
    ),
    "nasnet_a_7_2304_cifar": Preset(
        title="NASNet-A (7 @ 2304), CIFAR-10",
        architecture=_cifar(NASNET_A, 6, 96, 96),
        classes=10,
        parameters=27.6,
        mult_adds=None,
        accuracy="2.97 % error (2.40 % with cutout)",
        reading="F = 2304 / 24 = 96 with seven normal cells a stack gives 32.4 M parameters: six "
        "come nearest to the published size.",
    ),
    "nasnet_b_4_1152_cifar": Preset(
        title="NASNet-B (4 @ 1152), CIFAR-10",
        architecture=_cifar(NASNET_B, 4, 60, 60),
        classes=10,
        parameters=2.6,
        mult_adds=None,
        accuracy="3.73 % error",
        reading=f"{_B_READING}; F = 60 comes nearest to the published size.",
    ),
    "nasnet_c_4_640_cifar": Preset(
        title="NASNet-C (4 @ 640), CIFAR-10",
        architecture=_cifar(NASNET_C, 4, 32, 32),
        classes=10,
        parameters=3.1,
        mult_adds=None,
        accuracy="3.59 % error",
        reading="A normal cell gives 5F channels, so F = 640 / 20 = 32.",
    ),
}


def list_models() -> list[str]:
    """The names that `create_model` takes."""
    return list(PRESETS)


def create_model(model: str, **arguments: Any) -> keras.Model:
    """Builds a model of the papers' tables by its name.

    Args:
        model: one of `list_models()`.
        **arguments: those of `NASNetMobile`.

    Raises:
        ValueError: if there is no such model, or an argument is out of range.
    """
    if model not in PRESETS:
        raise ValueError(f"Expected one of {', '.join(PRESETS)}. Received: {model=}")
    preset = PRESETS[model]
    return _build(preset.architecture, **{"classes": preset.classes, "name": model, **arguments})


def _builder(function_name: str, model: str) -> Callable[..., keras.Model]:
    """The named builder of a preset, with the signature of `keras.applications`."""
    preset = PRESETS[model]

    def build(
        input_shape: InputShape | None = None,
        include_top: bool = True,
        weights: str | os.PathLike[str] | None = None,
        input_tensor: Any = None,
        pooling: str | None = None,
        classes: int = preset.classes,
        classifier_activation: str | None = "softmax",
        name: str = model,
        *,
        pool_padding: str = "same",
        auxiliary_head: bool = False,
        drop_path_keep: float = 1.0,
        drop_path_steps: int | None = None,
        hyperparameters: Hyperparameters | None = None,
    ) -> keras.Model:
        return _build(
            preset.architecture,
            input_shape,
            include_top,
            weights,
            input_tensor,
            pooling,
            classes,
            classifier_activation,
            name,
            pool_padding=pool_padding,
            auxiliary_head=auxiliary_head,
            drop_path_keep=drop_path_keep,
            drop_path_steps=drop_path_steps,
            hyperparameters=hyperparameters,
        )

    size = preset.architecture.image_size
    published = f"{preset.parameters} M parameters, {preset.accuracy}"
    reading = f"\n\n    {preset.reading}" if preset.reading else ""
    build.__name__ = build.__qualname__ = function_name
    build.__doc__ = f"{preset.title}: {published} as published ([N]).{reading}\n" + _ARGUMENTS.format(
        default=(size, size, 3)
    )
    return build


NASNetMobile = _builder("NASNetMobile", "nasnet_mobile")
NASNetLarge = _builder("NASNetLarge", "nasnet_large")
NASNetA_5_1538 = _builder("NASNetA_5_1538", "nasnet_a_5_1538")
NASNetA_7_1920 = _builder("NASNetA_7_1920", "nasnet_a_7_1920")
NASNetB_4_1536 = _builder("NASNetB_4_1536", "nasnet_b_4_1536")
NASNetC_3_960 = _builder("NASNetC_3_960", "nasnet_c_3_960")
NASNetA_6_768_CIFAR = _builder("NASNetA_6_768_CIFAR", "nasnet_a_6_768_cifar")
NASNetA_7_2304_CIFAR = _builder("NASNetA_7_2304_CIFAR", "nasnet_a_7_2304_cifar")
NASNetB_4_1152_CIFAR = _builder("NASNetB_4_1152_CIFAR", "nasnet_b_4_1152_cifar")
NASNetC_4_640_CIFAR = _builder("NASNetC_4_640_CIFAR", "nasnet_c_4_640_cifar")


def preprocess_input(x: Any) -> Any:
    """Scales images from [0, 255] to [-1, 1].

    Args:
        x: array or tensor of any shape, RGB where there are colours; integers become float32.
    """
    return keras.applications.imagenet_utils.preprocess_input(x, mode="tf")


def decode_predictions(predictions: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Names the ``top`` most probable ImageNet classes of every image.

    Args:
        predictions: probabilities (batch, 1000).
        top: how many classes to name.

    Returns:
        For every image a list of (WordNet id, class name, probability), best first. The names are
        fetched once and cached by Keras.
    """
    return keras.applications.imagenet_utils.decode_predictions(predictions, top=top)
