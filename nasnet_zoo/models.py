"""The models: one builder for any genotype, and the papers' table as named builders."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import keras
import numpy as np
from annotated_types import Interval

from nasnet_zoo.architecture import Architecture, Dropout, StemKind, architecture_cost
from nasnet_zoo.cells import (
    AMOEBANET_A,
    DARTS_V2,
    ENAS,
    NASNET_A,
    NASNET_B,
    NASNET_C,
    PNASNET_5,
    Genotype,
    Hyperparameters,
)
from nasnet_zoo.cells.drop_path import DropPathVersion, KeepProbability
from nasnet_zoo.checking import PositiveInt, checked
from nasnet_zoo.classifier import Dense
from nasnet_zoo.files import reading
from nasnet_zoo.network import build_model
from nasnet_zoo.weights import Background, load_weights
from nasnet_zoo.weights.hdf5 import check_archive

#: So many letters of an error of Keras's are told.
_REASON = 400

InputShape = tuple[int | None, int | None, int]
Pooling = Literal["avg", "max"]
PoolPadding = Literal["same", "keras"]
Activation = str | Callable[..., Any] | None

_ARGUMENTS = """
    Args:
        input_shape: (height, width, channels); height and width may be None. Default: {default}
            with the classifier, any size without.
        include_top: whether to add global pooling, dropout and the classifier.
        weights: None for random initialisation, "imagenet" for the published weights of
            NASNetMobile and NASNetLarge, "fashion_mnist" for those of NASNetA_1_384_FashionMNIST
            that this package holds, or a path as in `load_weights`. What of the model keeps its
            initial values, such as the classifier of other ``classes``, is warned of.
        input_tensor: a Keras tensor to build the model on, instead of a new input.
        pooling: without the classifier: None for the 4D features, "avg" or "max" for a vector.
        classes: number of classes.
        classifier_activation: "softmax", or None for logits.
        name: of the model.
        pool_padding: "same", what the published weights were trained with, or "keras", the
            zero-padded reduction pools of `keras.applications`.
        auxiliary_head: whether to add the auxiliary classifier as a second output, for training (the
            outputs are named "predictions" and "auxiliary"); `inference_model` takes it off.
        drop_path_keep: ScheduledDropPath's final probability to keep a path, in (0, 1].
        drop_path_steps: training steps over which drop path grows; needed where it is below 1.
        drop_path_version: "v3", the released schedule; see `ScheduledDropPath`.
        gradient_checkpointing: whether training keeps only the cells' inputs for the backward pass
            and computes what is inside them again: less memory for more time.
        hyperparameters: batch norm's constants and the like, if not the architecture's.
        background: what becomes of class 0 of 1001-class weights; see `load_weights`.
        class_names: one for each class, in the order of the outputs. They are stored with the
            model; see `class_names`.

    Returns:
        A functional `keras.Model` from float images, scaled by `preprocess_input`, to class
        probabilities (with the auxiliary head: a list of two), features or vectors.

    Raises:
        ValueError: if an argument is out of range, or the weights do not fit.
        OSError: if the weights cannot be found or fetched.
"""


@checked
def NASNet(
    genotype: Genotype | str | os.PathLike[str],
    cells: PositiveInt,
    filters: PositiveInt,
    stem: StemKind = "imagenet",
    stem_filters: PositiveInt = 32,
    *,
    skip_reduction_layer_input: bool = False,
    repeat_stem: bool = False,
    count_reduction_cells: bool = False,
    image_size: PositiveInt | None = None,
    dropout: Dropout = 0.0,
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
        repeat_stem: see `Architecture`.
        count_reduction_cells: see `Architecture`.
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
        genotype,
        cells,
        filters,
        stem,
        stem_filters,
        skip_reduction_layer_input,
        image_size or 0,
        dropout,
        repeat_stem=repeat_stem,
        count_reduction_cells=count_reduction_cells,
    )
    return from_architecture(architecture, name=name, **arguments)


@checked
def from_architecture(
    architecture: Architecture,
    input_shape: InputShape | None = None,
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    input_tensor: Any = None,
    pooling: Pooling | None = None,
    classes: PositiveInt = 1000,
    classifier_activation: Activation = "softmax",
    name: str | None = None,
    *,
    pool_padding: PoolPadding = "same",
    auxiliary_head: bool = False,
    drop_path_keep: KeepProbability = 1.0,
    drop_path_steps: PositiveInt | None = None,
    drop_path_version: DropPathVersion = "v3",
    gradient_checkpointing: bool = False,
    hyperparameters: Hyperparameters | None = None,
    background: Background = "drop",
    class_names: Sequence[str] | None = None,
) -> keras.Model:
    """Builds the model of an architecture; the arguments are those of `NASNetMobile`."""
    if auxiliary_head and not include_top:
        raise ValueError(
            "Expected include_top=True with auxiliary_head=True. Received: include_top=False"
        )
    try:
        keras.activations.get(classifier_activation)
    except ValueError:
        raise ValueError(
            "Expected classifier_activation: the name of an activation of Keras, a function or None. "
            f"Received: {classifier_activation=}"
        ) from None
    if drop_path_keep < 1.0 and drop_path_steps is None:
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
        drop_path_version=drop_path_version,
        gradient_checkpointing=gradient_checkpointing,
        class_names=class_names,
        name=name,
    )
    if weights is not None:
        # The third caller is that of `from_architecture`, the second is what checks its arguments.
        load_weights(model, weights, background).warn(stacklevel=4)
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
        shape = (size, size, architecture.channels)
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
        parameters: published, in millions; None for a model of ours.
        mult_adds: published, in millions; None where the paper gives none.
        accuracy: published, as the paper prints it; for a model of ours, measured.
        reading: how the architecture was read off the papers, where they leave it open.
        paper: where it was published. [N] is the paper of NASNet, arXiv 1707.07012.
    """

    title: str
    architecture: Architecture
    classes: int
    parameters: float | None
    mult_adds: float | None
    accuracy: str
    reading: str = ""
    paper: str = "[N]"


def _imagenet(
    genotype: Genotype, cells: int, filters: int, stem_filters: int, size: int
) -> Architecture:
    return Architecture(
        genotype, cells, filters, "imagenet", stem_filters, image_size=size, dropout=0.5
    )


def _cifar(genotype: Genotype, cells: int, filters: int, stem_filters: int) -> Architecture:
    return Architecture(genotype, cells, filters, "cifar", stem_filters)


_B_READING = (
    "No reading of the appendix meets the published figures exactly. Taken: separable convolutions "
    "applied once and inputs adapted only where the resolution differs"
)

_AMOEBANET_READING = (
    "The 1x7 7x1 convolution runs on F/4 filters, as in the authors' release (on F it gives 10 to "
    "12 % too many parameters). The release strides one axis in each of its two steps, here the first "
    "step strides both: at most 0.4 % fewer mult-adds."
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
    "pnasnet_5_mobile": Preset(
        title="PNASNet-5 (N = 3, F = 54), Mobile",
        architecture=dataclasses.replace(
            _imagenet(PNASNET_5, 3, 54, 32, 224), count_reduction_cells=True
        ),
        classes=1000,
        parameters=5.1,
        mult_adds=588,
        accuracy="74.2 / 91.9 %",
        paper="arXiv 1712.00559",
    ),
    "pnasnet_5_large": Preset(
        title="PNASNet-5 (N = 4, F = 216), Large",
        architecture=dataclasses.replace(
            _imagenet(PNASNET_5, 4, 216, 96, 331), count_reduction_cells=True
        ),
        classes=1000,
        parameters=86.1,
        mult_adds=25000,
        accuracy="82.9 / 96.2 %",
        paper="arXiv 1712.00559",
    ),
    "amoebanet_a_4_50": Preset(
        title="AmoebaNet-A (N = 4, F = 50), mobile",
        architecture=_imagenet(AMOEBANET_A, 4, 50, 32, 224),
        classes=1000,
        parameters=5.1,
        mult_adds=555,
        accuracy="74.5 / 92.0 %",
        reading=_AMOEBANET_READING,
        paper="arXiv 1802.01548",
    ),
    "amoebanet_a_6_190": Preset(
        title="AmoebaNet-A (N = 6, F = 190)",
        architecture=_imagenet(AMOEBANET_A, 6, 190, 32, 331),
        classes=1000,
        parameters=86.7,
        mult_adds=23100,
        accuracy="82.8 / 96.1 %",
        reading=_AMOEBANET_READING,
        paper="arXiv 1802.01548",
    ),
    "amoebanet_a_6_36_cifar": Preset(
        title="AmoebaNet-A (N = 6, F = 36), CIFAR-10",
        architecture=_cifar(AMOEBANET_A, 6, 36, 36),
        classes=10,
        parameters=3.2,
        mult_adds=None,
        accuracy="3.34 % error",
        reading=f"{_AMOEBANET_READING} The stem of the CIFAR network is not published: F filters come "
        "nearest to the published size, 3F give 0.8 % more parameters.",
        paper="arXiv 1802.01548",
    ),
    "enas_cifar": Preset(
        title="ENAS (micro search space), CIFAR-10",
        architecture=dataclasses.replace(_cifar(ENAS, 6, 36, 108), repeat_stem=True),
        classes=10,
        parameters=4.6,
        mult_adds=None,
        accuracy="3.54 % error (2.89 % with cutout)",
        reading="The released script sets five normal cells a stack and F = 36, which gives 3.89 M "
        "parameters; six, as in NASNet-A, meet the published 4.6 M. Where the released code "
        "factorizes a reduction for a skip connection it leaves out the ReLU, and its classifier has "
        "no bias (10 parameters). The auxiliary head is NASNet's.",
        paper="arXiv 1802.03268",
    ),
    "darts_v2_cifar": Preset(
        title="DARTS (second order), CIFAR-10",
        architecture=dataclasses.replace(_cifar(DARTS_V2, 6, 36, 108), repeat_stem=True),
        classes=10,
        parameters=3.3,
        mult_adds=None,
        accuracy="2.76 % error (with cutout)",
        reading="The parameters are those of the released network, to the last one (3,349,342). The "
        "released network has no ReLU before its global pool and applies its auxiliary head after "
        "the second reduction cell; both are NASNet's here.",
        paper="arXiv 1806.09055",
    ),
    "nasnet_a_1_384_fashion_mnist": Preset(
        title="NASNet-A (1 @ 384), Fashion-MNIST",
        architecture=dataclasses.replace(_cifar(NASNET_A, 1, 16, 32), image_size=28, channels=1),
        classes=10,
        parameters=None,
        mult_adds=None,
        accuracy="93.51% top-1",
        reading="No paper's: trained by this package's recipe `fashion_mnist`, and held in it with "
        "its weights.",
        paper="docs/training.md",
    ),
}


def list_models() -> list[str]:
    """The names that `create_model` takes."""
    return list(PRESETS)


def find_preset(model: str) -> Preset:
    """The row of a model's name.

    Raises:
        ValueError: if there is no such model.
    """
    if model not in PRESETS:
        raise ValueError(f"Expected one of {', '.join(PRESETS)}. Received: {model=}")
    return PRESETS[model]


def create_model(
    model: str, genotype: Genotype | str | os.PathLike[str] | None = None, **arguments: Any
) -> keras.Model:
    """Builds a model of the papers' tables by its name.

    Args:
        model: one of `list_models()`.
        genotype: cells to build it of instead of its own; the path of a JSON file will do.
        **arguments: those of `NASNetMobile`.

    Raises:
        ValueError: if there is no such model, or an argument is out of range.
    """
    preset = find_preset(model)
    architecture = preset.architecture
    if genotype is not None:
        if not isinstance(genotype, Genotype):
            genotype = Genotype.load(genotype)
        architecture = dataclasses.replace(architecture, genotype=genotype)
    return from_architecture(architecture, **{"classes": preset.classes, "name": model, **arguments})


def model_name(architecture: Architecture) -> str:
    """Names a network by what it is.

    Args:
        architecture: the network. Its image size, channels, dropout and hyperparameters do not count.

    Returns:
        The name in `list_models()` of the same network; otherwise genotype, N and the channels of the
        last features, as in the papers' "NASNet-A (6 @ 768)": "nasnet_a_6_768".
    """

    def network(a: Architecture) -> Architecture:
        genotype = dataclasses.replace(a.genotype, name="any")
        return Architecture(
            genotype,
            a.cells,
            a.filters,
            a.stem,
            a.stem_filters,
            a.skip_reduction_layer_input,
            repeat_stem=a.repeat_stem,
            count_reduction_cells=a.count_reduction_cells,
        )

    for name, preset in PRESETS.items():
        if network(preset.architecture) == network(architecture):
            return name
    # The classifier has a kernel and a bias for every class.
    one, two = (architecture_cost(architecture, classes).parameters for classes in (1, 2))
    genotype = re.sub(r"\W+", "_", architecture.genotype.name.lower()).strip("_") or "network"
    suffix = "_cifar" if architecture.stem == "cifar" else ""
    return f"{genotype}_{architecture.cells}_{two - one - 1}{suffix}"


def load_model(path: str | os.PathLike[str], kind: str = "a Keras model") -> keras.Model:
    """Loads a ``.keras`` file.

    Args:
        path: of the file.
        kind: what it should hold, for the messages.

    Raises:
        ValueError: if it is not one, lacks weights, or has weights that are no numbers, are not finite
            or are negative variances.
        OSError: if the file cannot be read.
    """
    name = os.fspath(path)
    with reading(name, kind), open(name, "rb"):
        pass
    if not name.endswith(".keras"):
        raise ValueError(f"{name}: expected {kind}, a .keras file. Received: {Path(name).name!r}")
    check_archive(name, kind)
    with warnings.catch_warnings(record=True) as noted:
        try:
            model = keras.saving.load_model(name, compile=False, safe_mode=True)
        # Keras raises many kinds of error on files that it cannot read.
        except Exception as error:
            reason = " ".join(str(error).split())
            reason = f"{reason[:_REASON]}..." if len(reason) > _REASON else reason
            raise ValueError(f"{name}: expected {kind}. Received: {reason}") from None
    if not isinstance(model, keras.Model):
        raise ValueError(f"{name}: expected {kind}. Received: a {type(model).__name__}")
    for warning in noted:
        # Keras keeps the initial weights of what a file lacks.
        if "Skipping nested container" in str(warning.message):
            raise ValueError(
                f"{name}: expected {kind} with all its weights. Received: one that lacks some"
            )
        warnings.warn(warning.message, stacklevel=2)
    for variable in model.variables:
        values = np.asarray(variable)
        if (
            not np.issubdtype(values.dtype, np.integer)
            and not np.isfinite(values.astype(np.float32)).all()
        ):
            raise ValueError(f"{name}: expected finite weights. Received: {variable.path} that is not")
        if variable.name.endswith("variance") and values.min(initial=0) < 0:
            raise ValueError(
                f"{name}: expected variances of at least 0. Received: {variable.path} below 0"
            )
    return model


def class_names(model: keras.Model) -> tuple[str, ...] | None:
    """The names of the classes that a model's outputs stand for, in their order.

    Args:
        model: a Keras model, new or loaded.

    Returns:
        What the model was built or trained with, or None if it does not hold names.
    """
    outputs = {id(output) for output in keras.tree.flatten(getattr(model, "outputs", None) or [])}
    for layer in model.layers:
        if isinstance(layer, Dense) and id(layer.output) in outputs:
            return layer.class_names
    return None


def _builder(function_name: str, model: str) -> Callable[..., keras.Model]:
    """The named builder of a preset, with the signature of `keras.applications`."""
    preset = PRESETS[model]

    def build(
        input_shape: InputShape | None = None,
        include_top: bool = True,
        weights: str | os.PathLike[str] | None = None,
        input_tensor: Any = None,
        pooling: Pooling | None = None,
        classes: PositiveInt = preset.classes,
        classifier_activation: Activation = "softmax",
        name: str = model,
        *,
        pool_padding: PoolPadding = "same",
        auxiliary_head: bool = False,
        drop_path_keep: KeepProbability = 1.0,
        drop_path_steps: PositiveInt | None = None,
        drop_path_version: DropPathVersion = "v3",
        gradient_checkpointing: bool = False,
        hyperparameters: Hyperparameters | None = None,
        background: Background = "drop",
        class_names: Sequence[str] | None = None,
    ) -> keras.Model:
        return from_architecture(
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
            drop_path_version=drop_path_version,
            gradient_checkpointing=gradient_checkpointing,
            hyperparameters=hyperparameters,
            background=background,
            class_names=class_names,
        )

    size, channels = preset.architecture.image_size, preset.architecture.channels
    published = f"{preset.accuracy} as measured"
    if preset.parameters:
        published = f"{preset.parameters} M parameters, {preset.accuracy} as published"
    reading = f"\n\n    {preset.reading}" if preset.reading else ""
    build.__name__ = build.__qualname__ = function_name
    build.__doc__ = f"{preset.title}: {published} ({preset.paper}).{reading}\n" + _ARGUMENTS.format(
        default=(size, size, channels)
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
PNASNet5Mobile = _builder("PNASNet5Mobile", "pnasnet_5_mobile")
PNASNet5Large = _builder("PNASNet5Large", "pnasnet_5_large")
AmoebaNetA_4_50 = _builder("AmoebaNetA_4_50", "amoebanet_a_4_50")
AmoebaNetA_6_190 = _builder("AmoebaNetA_6_190", "amoebanet_a_6_190")
AmoebaNetA_6_36_CIFAR = _builder("AmoebaNetA_6_36_CIFAR", "amoebanet_a_6_36_cifar")
ENAS_CIFAR = _builder("ENAS_CIFAR", "enas_cifar")
DARTS_V2_CIFAR = _builder("DARTS_V2_CIFAR", "darts_v2_cifar")
NASNetA_1_384_FashionMNIST = _builder("NASNetA_1_384_FashionMNIST", "nasnet_a_1_384_fashion_mnist")


def preprocess_input(x: Any) -> Any:
    """Scales images from [0, 255] to [-1, 1].

    Args:
        x: array or tensor of any shape, RGB where there are colours; integers become float32.
    """
    return keras.applications.imagenet_utils.preprocess_input(x, mode="tf")


@checked
def decode_predictions(
    predictions: Any, top: Annotated[int, Interval(ge=1, le=1000)] = 5
) -> list[list[tuple[str, str, float]]]:
    """Names the ``top`` most probable ImageNet classes of every image.

    The names are those of `keras.applications`, held in this package: nothing is fetched.

    Args:
        predictions: probabilities (batch, 1000).
        top: how many classes to name, from 1 to 1000.

    Returns:
        For every image a list of (WordNet id, class name, probability), best first.

    Raises:
        ValueError: if ``predictions`` has another shape, or ``top`` is out of range.
    """
    probabilities = np.asarray(keras.ops.convert_to_numpy(predictions))
    classes = imagenet_classes()
    if probabilities.ndim != 2 or probabilities.shape[1] != len(classes):
        raise ValueError(
            f"Expected predictions of shape (batch, {len(classes)}). Received: {probabilities.shape}"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("Expected finite predictions. Received: infinite ones, or no numbers")
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [
        [(*classes[k], float(row[k])) for k in chosen]
        for row, chosen in zip(probabilities, best, strict=True)
    ]


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """WordNet ids and names of ImageNet's classes, in the order of `keras.applications`."""
    lines = Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    return tuple((identity, name) for identity, name in (line.split(" ") for line in lines))
