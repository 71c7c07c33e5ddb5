"""The models: a builder for any genotype, and a named builder for each model of the papers."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Concatenate, Literal, ParamSpec

import keras

from nasnet_zoo.cells import (
    ChainGenotype,
    Genotype,
    Hyperparameters,
    LayerwiseGenotype,
    TreeGenotype,
)
from nasnet_zoo.cells.networks import NetworkGenotype
from nasnet_zoo.cells.primitives import DropPathVersion, KeepProbability
from nasnet_zoo.checking import PositiveInt, check, checked
from nasnet_zoo.weights import Background, load_weights

from .architecture import Architecture, Dropout, LayerwiseArchitecture, Network, StemKind
from .bases import Base, CondenseArchitecture, StageCells, Stages, TreeArchitecture
from .chains import ChainArchitecture
from .network import build_model
from .presets import find_preset

InputShape = tuple[int | None, int | None, int]
Pooling = Literal["avg", "max"]
PoolPadding = Literal["same", "keras"]
Activation = str | Callable[..., Any] | None

P = ParamSpec("P")


@checked
def from_architecture(
    architecture: Network,
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
    """Build the model of an architecture.

    Args:
        architecture: Network to build.
        input_shape: Height, width and channels of the images; height and width may be None. Default:
            those of the architecture with the classifier, any size without.
        include_top: Whether to add global pooling, dropout and the classifier. Default: True.
        weights: "imagenet" for the published weights of NASNetMobile and NASNetLarge,
            "fashion_mnist" for those of NASNetA_1_384_FashionMNIST that this package holds, or a
            path as in `load_weights`. A warning names the weights that keep their initial values,
            such as the classifier of other ``classes``. Default: None, random weights.
        input_tensor: Keras tensor to build the model on. Default: None, a new input.
        pooling: Pooling of the features without the classifier: "avg" or "max" to a vector, or None
            for the 4D features. Default: None.
        classes: Number of classes. Default: that of the data set.
        classifier_activation: Activation of the classifier; None for logits. Default: "softmax".
        name: Name of the model.
        pool_padding: "same", which the published weights were trained with, or "keras", the
            zero-padded reduction pools of `keras.applications`. Default: "same".
        auxiliary_head: Whether to add the auxiliary classifier as a second output, for training (the
            outputs are named "predictions" and "auxiliary"); `inference_model` removes it.
            Default: False.
        drop_path_keep: Final probability of ScheduledDropPath to keep a path, in (0, 1]. Default: 1.
        drop_path_steps: Training steps over which drop path grows; required if ``drop_path_keep`` is
            below 1. Default: None.
        drop_path_version: Schedule of drop path, see `ScheduledDropPath`. Default: "v3", the
            released one.
        gradient_checkpointing: Whether training keeps only the cells' inputs for the backward pass
            and computes what is inside them a second time: less memory for more time.
            Default: False.
        hyperparameters: Constants of batch norm, regularizer and initializer. Default: None, those
            of the architecture.
        background: Use of class 0 of 1001-class weights, see `load_weights`. Default: "drop".
        class_names: Name of each class, in the order of the outputs, to store with the model.
            Default: None.

    Returns:
        A functional `keras.Model` from float images, scaled by `preprocess_input`, to class
        probabilities (with the auxiliary head: a list of two), features or vectors.

    Raises:
        ValueError: If an argument is out of range, or the weights do not fit.
        OSError: If the weights cannot be found or fetched.
    """
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
        architecture = architecture.with_zero_padded_pools()
    if hyperparameters is not None:
        architecture = architecture.replace(hyperparameters=hyperparameters)
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
    architecture: Network, shape: InputShape | None, include_top: bool, input_tensor: Any
) -> Any:
    """The input tensor of a model, checked."""
    if input_tensor is not None:
        if not keras.backend.is_keras_tensor(input_tensor):
            raise ValueError(f"Expected input_tensor a Keras tensor. Received: {input_tensor!r}")
        shape = tuple(input_tensor.shape[1:])
    elif shape is None:
        size = architecture.image_size if include_top else None
        shape = (size, size, architecture.channels)
    least = architecture.least_size
    fits = len(shape) == 3 and isinstance(shape[2], int) and shape[2] > 0
    if not fits or any(size is not None and size < least for size in shape[:2]):
        raise ValueError(
            f"Expected an input shape (height, width, channels) of at least {least}x{least} pixels, "
            f"where height and width may be None. Received: {shape}"
        )
    return keras.Input(shape) if input_tensor is None else input_tensor


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
    """Build the network of any genotype.

    Args:
        genotype: A `Genotype`, or the path of its JSON file.
        cells: N, number of normal cells in each of the three stacks.
        filters: F, filters of the first stack.
        stem: "imagenet" or "cifar". Default: "imagenet".
        stem_filters: Filters of the stem's convolution. Default: 32.
        skip_reduction_layer_input: See `Architecture`. Default: False.
        repeat_stem: See `Architecture`. Default: False.
        count_reduction_cells: See `Architecture`. Default: False.
        image_size: Height and width in pixels of the images that the network is meant for. Default:
            224, or 32 with the CIFAR stem.
        dropout: Dropout rate before the classifier, in [0, 1). Default: 0.
        name: Name of the model. Default: "nasnet".
        **arguments: Those of `NASNetMobile`.

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
def NAS(
    genotype: LayerwiseGenotype | str | os.PathLike[str],
    *,
    image_size: PositiveInt = 32,
    dropout: Dropout = 0.0,
    name: str = "nas",
    **arguments: Any,
) -> keras.Model:
    """Build the network of any layer-wise genotype.

    Args:
        genotype: A `LayerwiseGenotype`, or the path of its JSON file.
        image_size: Height and width in pixels of the images that the network is meant for. Default: 32.
        dropout: Dropout rate before the classifier, in [0, 1). Default: 0.
        name: Name of the model. Default: "nas".
        **arguments: Those of `NASNetMobile`.

    Example::

        model = NAS("winner.json", classes=10)
    """
    if not isinstance(genotype, LayerwiseGenotype):
        genotype = LayerwiseGenotype.load(genotype)
    architecture = LayerwiseArchitecture(genotype, image_size, dropout)
    return from_architecture(architecture, name=name, **arguments)


@checked
def TreeNet(
    genotype: TreeGenotype | str | os.PathLike[str],
    base: Base = "densenet",
    cells: PositiveInt = 6,
    width: PositiveInt = 48,
    groups: PositiveInt = 2,
    *,
    root_norm: bool = True,
    average: bool = False,
    image_size: PositiveInt = 32,
    dropout: Dropout = 0.0,
    name: str = "treenet",
    **arguments: Any,
) -> keras.Model:
    """Build a base network whose 3x3 convolutions are tree cells.

    Args:
        genotype: A `TreeGenotype`, or the path of its JSON file.
        base: "densenet" or "pyramidnet". Default: "densenet".
        cells: N, number of cells in each of the three stages. Default: 6.
        width: Growth k of a DenseNet, or alpha of a PyramidNet. Default: 48.
        groups: Groups of grouped convolutions. Default: 2.
        root_norm: See `TreeArchitecture`. Default: True.
        average: See `TreeArchitecture`. Default: False.
        image_size: Height and width in pixels of the images that the network is meant for. Default: 32.
        dropout: Dropout rate before the classifier, in [0, 1). Default: 0.
        name: Name of the model. Default: "treenet".
        **arguments: Those of `NASNetMobile`.

    Example::

        model = TreeNet(TREECELL_A, "pyramidnet", cells=18, width=84, classes=10)
    """
    if not isinstance(genotype, TreeGenotype):
        genotype = TreeGenotype.load(genotype)
    architecture = TreeArchitecture(
        genotype, base, cells, width, groups, root_norm, average, image_size, dropout
    )
    return from_architecture(architecture, name=name, **arguments)


@checked
def ChainNet(
    genotype: ChainGenotype | str | os.PathLike[str],
    *,
    image_size: PositiveInt = 32,
    dropout: Dropout = 0.0,
    name: str = "chain",
    **arguments: Any,
) -> keras.Model:
    """Build a plain network, or a DenseNet whose miniblocks may differ.

    Args:
        genotype: A `PlainGenotype` or `DenseNetGenotype`, or the path of its JSON file.
        image_size: Height and width in pixels of the images that the network is meant for. Default: 32.
        dropout: Dropout rate before the classifier, in [0, 1). Default: 0.
        name: Name of the model. Default: "chain".
        **arguments: Those of `NASNetMobile`.

    Example::

        model = ChainNet(DenseNetGenotype.parse("g12_g12_t_g12_g12_t_g12_g12"), classes=10)
    """
    if not isinstance(genotype, ChainGenotype):
        genotype = ChainGenotype.load(genotype)
    return from_architecture(ChainArchitecture(genotype, image_size, dropout), name=name, **arguments)


@checked
def CondenseNet(
    genotype: TreeGenotype | str | os.PathLike[str],
    stages: Stages = (4, 6, 8, 10, 8),
    growth: Stages = (8, 16, 32, 64, 128),
    cell_layers: StageCells = (0, 0, 6, 7, 6),
    *,
    groups: PositiveInt = 8,
    learned_groups: PositiveInt = 4,
    condense: PositiveInt = 4,
    stem_stride: PositiveInt = 2,
    image_size: PositiveInt = 224,
    dropout: Dropout = 0.0,
    name: str = "condensenet",
    **arguments: Any,
) -> keras.Model:
    """Build a CondenseNet whose last layers have tree cells, as it is before training.

    `nasnet_zoo.training.Condensing` condenses it in training, and `nasnet_zoo.transform.condense` makes
    a network of what is left.

    Args:
        genotype: A `TreeGenotype`, or the path of its JSON file.
        stages: Number of layers in each stage. Default: those of the ImageNet network.
        growth: Channels that a layer of each stage adds. Default: likewise.
        cell_layers: How many layers of each stage, the last ones, have cells. Default: those of the
            released network.
        groups: Groups of grouped convolutions. Default: 8.
        learned_groups: Groups of the 1x1 convolutions. Default: 4.
        condense: Of how many channels these groups read one at the end of training. Default: 4.
        stem_stride: Stride of the first convolution. Default: 2.
        image_size: Height and width in pixels of the images that the network is meant for.
            Default: 224.
        dropout: Dropout rate before the classifier, in [0, 1). Default: 0.
        name: Name of the model. Default: "condensenet".
        **arguments: Those of `NASNetMobile`.

    Example::

        model = CondenseNet(TREECELL_A, (2, 2, 2), (8, 16, 32), (0, 2, 2), stem_stride=1, classes=10)
    """
    if not isinstance(genotype, TreeGenotype):
        genotype = TreeGenotype.load(genotype)
    architecture = CondenseArchitecture(
        genotype,
        tuple(stages),
        tuple(growth),
        tuple(cell_layers),
        groups,
        learned_groups,
        condense,
        stem_stride=stem_stride,
        image_size=image_size,
        dropout=dropout,
    )
    return from_architecture(architecture, name=name, **arguments)


def create_model(
    model: str,
    genotype: NetworkGenotype | str | os.PathLike[str] | None = None,
    **arguments: Any,
) -> keras.Model:
    """Build a model of the papers' tables by its name.

    Args:
        model: One of `list_models()`.
        genotype: Genotype of the same kind to use instead of the model's own, or the path of its JSON
            file. Default: None.
        **arguments: Those of `NASNetMobile`.

    Raises:
        ValueError: If there is no such model, or an argument is out of range.
    """
    preset = find_preset(model)
    architecture = preset.architecture
    if genotype is not None:
        kind = type(architecture.genotype)
        if isinstance(genotype, (str, os.PathLike)):
            genotype = kind.load(genotype)
        check("genotype", genotype, kind)
        architecture = architecture.replace(genotype=genotype)
    return from_architecture(architecture, **{"classes": preset.classes, "name": model, **arguments})


def _named(
    build: Callable[Concatenate[Network, P], keras.Model], function_name: str, model: str
) -> Callable[P, keras.Model]:
    """Make the builder of a preset.

    Args:
        build: `from_architecture`, whose other arguments the builder takes.
        function_name: Name of the builder.
        model: Name of the preset, the default name of the model.
    """
    preset = find_preset(model)
    defaults = {"classes": preset.classes, "name": model}
    _, *parameters = inspect.signature(build).parameters.values()
    parameters = [p.replace(default=defaults.get(p.name, p.default)) for p in parameters]
    signature = inspect.Signature(parameters, return_annotation=keras.Model)

    def builder(*args: P.args, **kwargs: P.kwargs) -> keras.Model:
        given = signature.bind(*args, **kwargs).arguments
        kwargs.update({name: value for name, value in defaults.items() if name not in given})
        return build(preset.architecture, *args, **kwargs)

    published = f"{preset.accuracy} as measured"
    if preset.parameters:
        published = f"{preset.parameters} M parameters, {preset.accuracy} as published"
    elif preset.mult_adds:
        published = f"{preset.mult_adds} M multiply-adds, {preset.accuracy} as published"
    reading = f"\n\n    {preset.reading}" if preset.reading else ""
    _, first, arguments = (build.__doc__ or "").partition("        input_shape:")
    summary = f"{preset.title}: {published} ({preset.paper}).{reading}"
    builder.__doc__ = f"{summary}\n\n    Args:\n{first}{arguments}"
    builder.__name__ = builder.__qualname__ = function_name
    builder.__signature__ = signature  # type: ignore[attr-defined]
    return builder


NASNetMobile = _named(from_architecture, "NASNetMobile", "nasnet_mobile")
NASNetLarge = _named(from_architecture, "NASNetLarge", "nasnet_large")
NASNetA_5_1538 = _named(from_architecture, "NASNetA_5_1538", "nasnet_a_5_1538")
NASNetA_7_1920 = _named(from_architecture, "NASNetA_7_1920", "nasnet_a_7_1920")
NASNetB_4_1536 = _named(from_architecture, "NASNetB_4_1536", "nasnet_b_4_1536")
NASNetC_3_960 = _named(from_architecture, "NASNetC_3_960", "nasnet_c_3_960")
NASNetA_6_768_CIFAR = _named(from_architecture, "NASNetA_6_768_CIFAR", "nasnet_a_6_768_cifar")
NASNetA_7_2304_CIFAR = _named(from_architecture, "NASNetA_7_2304_CIFAR", "nasnet_a_7_2304_cifar")
NASNetB_4_1152_CIFAR = _named(from_architecture, "NASNetB_4_1152_CIFAR", "nasnet_b_4_1152_cifar")
NASNetC_4_640_CIFAR = _named(from_architecture, "NASNetC_4_640_CIFAR", "nasnet_c_4_640_cifar")
PNASNet5Mobile = _named(from_architecture, "PNASNet5Mobile", "pnasnet_5_mobile")
PNASNet5Large = _named(from_architecture, "PNASNet5Large", "pnasnet_5_large")
AmoebaNetA_4_50 = _named(from_architecture, "AmoebaNetA_4_50", "amoebanet_a_4_50")
AmoebaNetA_6_190 = _named(from_architecture, "AmoebaNetA_6_190", "amoebanet_a_6_190")
AmoebaNetA_6_36_CIFAR = _named(from_architecture, "AmoebaNetA_6_36_CIFAR", "amoebanet_a_6_36_cifar")
ENAS_CIFAR = _named(from_architecture, "ENAS_CIFAR", "enas_cifar")
DARTS_V2_CIFAR = _named(from_architecture, "DARTS_V2_CIFAR", "darts_v2_cifar")
NASv1_CIFAR = _named(from_architecture, "NASv1_CIFAR", "nas_v1_cifar")
TreeCellA_DenseNet_6_48_CIFAR = _named(
    from_architecture, "TreeCellA_DenseNet_6_48_CIFAR", "treecell_a_densenet_6_48_cifar"
)
TreeCellA_DenseNet_16_48_CIFAR = _named(
    from_architecture, "TreeCellA_DenseNet_16_48_CIFAR", "treecell_a_densenet_16_48_cifar"
)
TreeCellB_DenseNet_6_48_CIFAR = _named(
    from_architecture, "TreeCellB_DenseNet_6_48_CIFAR", "treecell_b_densenet_6_48_cifar"
)
TreeCellA_PyramidNet_18_84_CIFAR = _named(
    from_architecture, "TreeCellA_PyramidNet_18_84_CIFAR", "treecell_a_pyramidnet_18_84_cifar"
)
TreeCellB_PyramidNet_18_84_CIFAR = _named(
    from_architecture, "TreeCellB_PyramidNet_18_84_CIFAR", "treecell_b_pyramidnet_18_84_cifar"
)
TreeCellA_PyramidNet_18_150_CIFAR = _named(
    from_architecture, "TreeCellA_PyramidNet_18_150_CIFAR", "treecell_a_pyramidnet_18_150_cifar"
)
DenseNetBC_31_40_CIFAR = _named(from_architecture, "DenseNetBC_31_40_CIFAR", "densenet_bc_31_40_cifar")
TreeCellA_CondenseNetMobile = _named(
    from_architecture, "TreeCellA_CondenseNetMobile", "treecell_a_condensenet_mobile"
)
TreeCellB_CondenseNetMobile = _named(
    from_architecture, "TreeCellB_CondenseNetMobile", "treecell_b_condensenet_mobile"
)
NASNetA_1_384_FashionMNIST = _named(
    from_architecture, "NASNetA_1_384_FashionMNIST", "nasnet_a_1_384_fashion_mnist"
)


@contextmanager
def dtype_policy(policy: Any) -> Iterator[None]:
    """Set Keras's global dtype policy for the layers that are built inside the block."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
