"""The Keras model of an architecture, and what can be read off such a model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras

from nasnet_zoo import classifier
from nasnet_zoo.cells import (
    BlockLayer,
    Cell,
    Genotype,
    GraphLayer,
    JoinStates,
    LayerwiseGenotype,
    NASLayer,
    ScheduledDropPath,
    SequenceLayer,
)
from nasnet_zoo.cells.operations import Primitives
from nasnet_zoo.cells.primitives import (
    BatchNorm,
    Conv,
    Dense,
    DropPathVersion,
    GlobalAveragePool,
    Pool,
    Relu,
)
from nasnet_zoo.checking import checked

from .architecture import (
    STACKS,
    STEM,
    STEM_CELLS,
    Architecture,
    CellKind,
    LayerwiseArchitecture,
    Network,
    Part,
    Place,
    PlannedCell,
    PlannedHead,
    PlannedLayer,
    PlannedStem,
    StemKind,
    auxiliary_kernel,
    layer_number,
    number_cells,
    plan_cells,
    stem_primitives,
    stem_stride,
)
from .bases import PlannedBlock, read_architecture
from .chains import read_chain


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class Stem(SequenceLayer):
    """The first convolution and its batch norm; arguments as in `Architecture`."""

    def __init__(self, stem: StemKind, stem_filters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stem, self.stem_filters = stem, stem_filters

    @property
    def stride(self) -> int:
        """Stride of the convolution."""
        return stem_stride(self.stem)

    def primitives(self) -> Primitives:
        return stem_primitives(self.stem, self.stem_filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stem": self.stem, "stem_filters": self.stem_filters}


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class AuxiliaryHead(SequenceLayer):
    """The auxiliary classifier ([S]): (batch, classes) from a cell's output.

    ReLU, 5x5 average pool with stride 3, 1x1 convolution to 128, batch norm, ReLU, ``kernel`` x
    ``kernel`` convolution to 768, batch norm, ReLU, dense; all VALID. On larger images than the
    kernel was made for, the mean over the remaining map is classified.

    Args:
        classes: Number of outputs.
        kernel: Size of the last convolution's kernel, see `auxiliary_kernel`.
        activation: Activation of the outputs; None for logits. Default: "softmax".
        **kwargs: Those of `GraphLayer`.
    """

    def __init__(
        self, classes: int, kernel: int, activation: str | None = "softmax", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.classes, self.kernel, self.activation = classes, kernel, activation

    def primitives(self) -> Primitives:
        squeeze = Conv(1, filters=128), BatchNorm(), Relu()
        whole_map = Conv(self.kernel, filters=768, padding="valid"), BatchNorm(), Relu()
        pooled = Relu(), Pool("avg", 5, 3, "valid")
        return *pooled, *squeeze, *whole_map, GlobalAveragePool(), Dense(self.classes)

    def call(self, inputs: Any, training: bool | None = False) -> Any:
        logits = keras.ops.squeeze(super().call(inputs, training), axis=(1, 2))
        logits = keras.ops.cast(logits, self.variable_dtype)
        return keras.activations.get(self.activation)(logits)

    def compute_output_spec(self, inputs: Any, training: bool | None = False) -> Any:
        return keras.KerasTensor((inputs.shape[0], self.classes), dtype=self.variable_dtype)

    def get_config(self) -> dict[str, Any]:
        own = {"classes": self.classes, "kernel": self.kernel, "activation": self.activation}
        return {**super().get_config(), **own}


def build_model(
    architecture: Network,
    *,
    inputs: Any,
    include_top: bool = True,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    auxiliary_head: bool = False,
    drop_path_keep: float = 1.0,
    drop_path_steps: int | None = None,
    drop_path_version: DropPathVersion = "v3",
    gradient_checkpointing: bool = False,
    class_names: Sequence[str] | None = None,
    name: str | None = None,
) -> keras.Model:
    """Build the Keras model of an architecture on the tensor ``inputs``.

    The arguments are those of `nasnet_zoo.NASNet`. Every part of the network's plan is one layer, named
    as its end point.

    Raises:
        ValueError: If an auxiliary head or drop path is asked for that the network has no place for.
    """
    a, plan = architecture, architecture.plan()
    common = {"hyperparameters": a.hyperparameters}
    depths = sum(part.depth is not None for part in plan.parts)
    if drop_path_keep < 1.0 and not depths:
        raise ValueError(
            f"Expected drop_path_keep=1 of a network without cells. Received: {drop_path_keep=}"
        )
    kernel = auxiliary_kernel(a) if auxiliary_head else 0

    def apply(part: Part, sources: list[Any]) -> list[Any]:
        drop_path = None
        if drop_path_keep < 1.0 and part.depth is not None:
            drop_path = ScheduledDropPath(
                drop_path_keep,
                drop_path_steps or 0,
                part.depth,
                depths,
                drop_path_version,
                name=f"{part.name}_drop_path",
            )
        checkpointing = gradient_checkpointing and not isinstance(part, (PlannedStem, PlannedHead))
        layer = _layer(part, drop_path=drop_path, gradient_checkpointing=checkpointing, **common)
        return _as_list(layer(sources[0] if isinstance(part, PlannedStem) else sources))

    # === Functional Model ===
    find = plan.connect(inputs, apply)
    x = find(plan.features)
    if not plan.activated:
        x = keras.layers.ReLU(name="Head_ReLU")(x)
    if include_top or pooling == "avg":
        x = keras.layers.GlobalAveragePooling2D(name="global_pool")(x)
    elif pooling == "max":
        x = keras.layers.GlobalMaxPooling2D(name="global_pool")(x)
    if include_top:
        if a.dropout:
            x = keras.layers.Dropout(a.dropout, name="dropout")(x)
        x = _classifier(a, classes, classifier_activation, class_names)(x)
    inputs = keras.utils.get_source_inputs(inputs)[0]
    if not auxiliary_head:
        return keras.Model(inputs, x, name=name)
    assert plan.auxiliary is not None
    head = AuxiliaryHead(classes, kernel, classifier_activation, name="auxiliary", **common)
    return keras.Model(inputs, [x, head(find(plan.auxiliary))], name=name)


def _layer(part: Part, **options: Any) -> GraphLayer:
    """The Keras layer of a part of a network."""
    match part:
        case PlannedStem(stem, stem_filters):
            return Stem(stem, stem_filters, name=part.name, **options)
        case PlannedCell():
            return Cell(part.cell, part.filters, part.stride, part.scales, name=part.name, **options)
        case PlannedLayer():
            return NASLayer(part.layer, part.merge, name=part.name, **options)
        case PlannedHead():
            return JoinStates(part.scales, part.merge, name=part.name, **options)
        case PlannedBlock():
            return BlockLayer(part.block, name=part.name, **options)
    raise TypeError(f"Expected a part of a network. Received: {part}")


def _classifier(
    a: Network, classes: int, activation: Any, class_names: Sequence[str] | None
) -> keras.layers.Dense:
    assert a.hyperparameters is not None
    return classifier.Dense(
        classes,
        class_names,
        activation=activation,
        kernel_initializer=keras.initializers.VarianceScaling(
            a.hyperparameters.initializer_scale, "fan_out"
        ),
        kernel_regularizer=a.hyperparameters.regularizer(),
        dtype=keras.config.dtype_policy().variable_dtype,  # softmax in float32 in mixed precision
        name="predictions",
    )


def _as_list(tensors: Any) -> list[Any]:
    return tensors if isinstance(tensors, list) else [tensors]


def stem_of(model: keras.Model) -> Stem:
    """The stem of a model.

    Raises:
        ValueError: If the model is not of this package.
    """
    for layer in model.layers:
        if isinstance(layer, Stem):
            return layer
    raise ValueError(f"Expected a model of nasnet_zoo. Received: {model}")


def places_of(model: keras.Model) -> dict[Cell, Place]:
    """Read off a model which of its layers are cells, and their places in the network.

    Args:
        model: Model of this package, whole or cut off after any cell.

    Returns:
        The place of each cell, in order; none of a network of layers or of blocks.

    Raises:
        ValueError: If the model is not of this package.
    """
    if _layers(model):
        return {}
    cells = [layer for layer in model.layers if isinstance(layer, Cell)]
    kinds: list[CellKind] = ["normal" if cell.stride == 1 else "reduction" for cell in cells]
    if stem_of(model).stem == "imagenet":
        kinds[:STEM_CELLS] = ["stem"] * len(kinds[:STEM_CELLS])
    return dict(zip(cells, number_cells(kinds), strict=True))


def _layers(model: keras.Model) -> list[NASLayer | BlockLayer]:
    """The layers of a layer-wise network, or the blocks of a base network, in order."""

    def number(layer: NASLayer | BlockLayer) -> int:
        # Keras lists layers by their distance from the output, by which blocks, a chain, are in order.
        return layer_number(layer.name) if isinstance(layer, NASLayer) else 0

    return sorted((la for la in model.layers if isinstance(la, (NASLayer, BlockLayer))), key=number)


def _names(model: keras.Model) -> dict[GraphLayer, str]:
    """The stem and the cells of a model, or its layers or blocks, in order, with their end points."""
    if layers := _layers(model):
        return {layer: layer.name for layer in layers}
    cells = {cell: place.end_point for cell, place in places_of(model).items()}
    return {stem_of(model): STEM, **cells}


@checked
def end_points(model: keras.Model) -> dict[str, Any]:
    """Name the states inside a model of the zoo as TF-Slim does.

    Args:
        model: Model of this package, new or loaded.

    Returns:
        A dict from ``Stem``, ``Cell_0``.., ``Reduction_Cell_0``.., in a layer-wise network from
        ``Layer_1``.., in a network of tree cells from ``Stem_Conv``, ``Block_1``.. (and
        ``global_pool``, ``predictions``, ``auxiliary`` where the model has them) to the symbolic
        tensor, or to the list of labelled outputs for NASNet-B.
        `keras.Model(model.input, end_points(model)["Cell_3"])` cuts a feature extractor out.

    Raises:
        ValueError: If the model is not of this package.
    """
    points: dict[str, Any] = {layer.name: layer.output for layer in _layers(model)}
    if not points:
        points["Stem"] = stem_of(model).output
    for cell, place in places_of(model).items():
        points["Stem" if place.kind == "stem" else place.end_point] = cell.output
    heads = ("global_pool", "predictions", "auxiliary")
    return points | {layer.name: layer.output for layer in model.layers if layer.name in heads}


def architecture_of(model: keras.Model) -> Network:
    """Read off a model the architecture that it was built from.

    Args:
        model: Model of this package, new or loaded, with or without its classifier.

    Returns:
        An architecture that builds the same cells, layers or blocks on the same states; its genotype
        has the model's name. ``image_size`` and ``dropout``, on which neither these nor their weights
        depend, are the defaults.

    Raises:
        ValueError: If the model is not of this package, or its cells are connected in another way.
    """
    if layers := _layers(model):
        common = {"hyperparameters": layers[0].hyperparameters, "channels": model.input_shape[-1]}
        if blocks := [layer.block for layer in layers if isinstance(layer, BlockLayer)]:
            chain = read_chain(model.name, blocks, **common)
            try:  # a DenseNet of equal layers is one of tree cells
                return read_architecture(model.name, blocks, **common)
            except ValueError:
                if chain is None:
                    raise
                return chain
        nas = tuple(layer.layer for layer in layers if isinstance(layer, NASLayer))
        return LayerwiseArchitecture(LayerwiseGenotype(model.name, nas), **common)
    stem, names, found = stem_of(model), _names(model), []
    for depth, (cell, place) in enumerate(places_of(model).items()):
        states = [tensor._keras_history for tensor in _as_list(cell.input)]
        sources = tuple((names.get(state.operation, ""), state.tensor_index) for state in states)
        scales = cell.scales or (1,) * len(sources)
        found.append(PlannedCell(place, cell.cell, cell.filters, sources, scales, depth))
    normal, reduction = (
        [cell for cell in found if cell.place.kind == kind] for kind in ("normal", "reduction")
    )
    # Everything else in an architecture is read off the cells.
    for skip, repeat, count in itertools.product((False, True), repeat=3):
        if len(normal) < STACKS or not reduction:
            break
        architecture = Architecture(
            Genotype(model.name, normal[0].cell, reduction[0].cell),
            (len(normal) + (STACKS - 1) * count) // STACKS,
            min(cell.filters for cell in normal),
            stem.stem,
            stem.stem_filters,
            skip_reduction_layer_input=skip,
            hyperparameters=stem.hyperparameters,
            repeat_stem=repeat,
            count_reduction_cells=count,
            channels=model.input_shape[-1],
        )
        if plan_cells(architecture).cells == tuple(found):
            return architecture
    raise ValueError(
        f"Expected a model whose cells are connected as an Architecture says. Received: {model}"
    )


def functional(model: keras.Model) -> keras.Model:
    """A model whose layers can be read: itself, or that of a `keras.Sequential`.

    Raises:
        ValueError: If it is neither functional nor sequential with a known input.
    """
    if isinstance(model, keras.Sequential) and model.built:
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(
            "Expected a functional model, or a Sequential with an Input; make a functional one of a "
            f"subclassed model by keras.Model(inputs, model(inputs)). Received: {model!r}"
        )
    return model


@checked
def inference_model(model: keras.Model) -> keras.Model:
    """Remove the auxiliary head of a model, for evaluation and export.

    Args:
        model: Any Keras model.

    Returns:
        A model that shares all other weights; ``model`` itself if it has no auxiliary head of ours.
    """
    if not any(isinstance(layer, AuxiliaryHead) for layer in model.layers):
        return model
    return keras.Model(model.input, model.get_layer("predictions").output, name=model.name)


def feature_extractor(model: keras.Model, at: Sequence[int | str]) -> keras.Model:
    """Cut a backbone out of a model of the zoo.

    Args:
        model: Model of this package, new or loaded, with or without its classifier.
        at: For each output an end point's name, or a stride: the last state at that fraction of the
            image's size. ImageNet networks have 2, 4, 8, 16 and 32, CIFAR networks and those of tree
            cells 1, 2 and 4, plain ones 1, 2, 4, ..., layer-wise networks none.

    Returns:
        A model with the same input and a list of feature maps (batch, height, width, channels) in
        the order of ``at``, as the cells leave them: before a ReLU. NASNet-B's labelled states are
        concatenated along channels.

    Raises:
        ValueError: If the model is not of this package, or has no such state.

    Example::

        backbone = feature_extractor(NASNetMobile(weights="imagenet", include_top=False), (8, 16, 32))
        c3, c4, c5 = backbone(images)
    """
    if not at:
        raise ValueError(f"Expected at: at least one end point or stride. Received: {at=}")
    states, strides, stride = end_points(model), {}, 1
    for layer, name in _names(model).items():
        states[name] = layer.output
        if isinstance(layer, (Stem, Cell, BlockLayer)):
            stride *= layer.block.factor if isinstance(layer, BlockLayer) else layer.stride
            if stride:
                strides[stride] = layer.output
    outputs = []
    for key in at:
        known: dict[Any, Any] = strides if isinstance(key, int) else states
        if key not in known:
            raise ValueError(f"Expected one of {[*strides, *states]}. Received: {key!r}")
        state = known[key]
        outputs.append(keras.ops.concatenate(state, axis=-1) if isinstance(state, list) else state)
    return keras.Model(model.input, outputs, name=f"{model.name}_features")
