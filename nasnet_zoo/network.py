"""From cells to networks ([N] section 3, Figure 2; conventions of [S]).

`Architecture` is a network as data. `plan_cells` says which cells it has and which states each one
reads; the Keras model (`build_model`), the cost (`architecture_cost`) and the whole network's graph
of primitives (`network_graph`) all follow from that plan.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import keras
from annotated_types import Interval

from nasnet_zoo import classifier
from nasnet_zoo.cells import (
    CIFAR,
    IMAGENET,
    Cell,
    CellGenotype,
    Cost,
    Genotype,
    Graph,
    Hyperparameters,
    JoinStates,
    Node,
    ScheduledDropPath,
    SequenceLayer,
    cell_graph,
    graph_cost,
)
from nasnet_zoo.cells.drop_path import DropPathVersion
from nasnet_zoo.cells.graph import join_graph
from nasnet_zoo.cells.operations import Primitives
from nasnet_zoo.cells.primitives import (
    BatchNorm,
    Conv,
    Dense,
    GlobalAveragePool,
    Pool,
    Relu,
    Shape,
)
from nasnet_zoo.checking import NonNegativeInt, PositiveInt, check_fields, checked

STACKS = 3

StemKind = Literal["imagenet", "cifar"]
Dropout = Annotated[float, Interval(ge=0, lt=1)]


@dataclass(frozen=True)
class Architecture:
    """A network as data: everything but its classifier.

    Args:
        genotype: the cells.
        cells: N, normal cells in each of the three stacks (but see ``count_reduction_cells``).
        filters: F, filters of the first stack; doubled by each reduction cell.
        stem: "imagenet" (3x3 convolution with stride 2, then two reduction cells with F/4 and F/2
            filters) or "cifar" (3x3 convolution).
        stem_filters: filters of the stem's convolution.
        skip_reduction_layer_input: if true, the first normal cell after a reduction cell takes as
            ``h_{i-1}`` what the reduction cell took as its own (Large); otherwise the state that
            the reduction cell took as ``h_i``.
        image_size: height and width in pixels that the architecture is meant for. It fixes the
            auxiliary head's kernel; any other size can be used. 0 stands for 224, or for 32 with
            the CIFAR stem.
        dropout: rate before the classifier, in [0, 1).
        hyperparameters: batch norm's constants and the like. Default: those of the stem's data set.
        repeat_stem: if true, the first cell takes the stem's output as its ``h_{i-1}`` too and
            adapts it as any other (ENAS, DARTS); otherwise the raw ``h_i`` stands in.
        count_reduction_cells: if true, N counts the reduction cells: the second and the third stack
            have N - 1 normal cells (PNASNet).
        channels: of the images that the architecture is meant for; any other number can be used.

    Raises:
        ValueError: if a value is out of range.
    """

    genotype: Genotype
    cells: PositiveInt
    filters: PositiveInt
    stem: StemKind
    stem_filters: PositiveInt
    skip_reduction_layer_input: bool = False
    image_size: NonNegativeInt = 0
    dropout: Dropout = 0.0
    hyperparameters: Hyperparameters | None = None
    repeat_stem: bool = False
    count_reduction_cells: bool = False
    channels: PositiveInt = 3

    def __post_init__(self) -> None:
        check_fields(self)
        if self.stem == "imagenet" and self.filters < 4:
            raise ValueError(
                "Expected filters: an int of at least 4 with the ImageNet stem, whose first cell has a "
                f"quarter of them. Received: filters={self.filters}"
            )
        imagenet = self.stem == "imagenet"
        if self.hyperparameters is None:
            object.__setattr__(self, "hyperparameters", IMAGENET if imagenet else CIFAR)
        if not self.image_size:
            object.__setattr__(self, "image_size", 224 if imagenet else 32)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        assert self.hyperparameters is not None
        return {
            **fields,
            "genotype": self.genotype.to_dict(),
            "hyperparameters": dataclasses.asdict(self.hyperparameters),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Architecture:
        """The inverse of `to_dict`."""
        return cls(
            **{
                **data,
                "genotype": Genotype.from_dict(data["genotype"]),
                "hyperparameters": Hyperparameters(**data["hyperparameters"]),
            }
        )


@dataclass(frozen=True)
class PlannedCell:
    """One cell of a network.

    Args:
        name: the end point: ``Stem_Cell_0``.., ``Cell_0``.., ``Reduction_Cell_0``..
        cell: its genotype.
        filters: its F.
        stride: 1 or 2.
        sources: the states it reads, ``h_i`` first, as (end point, number of its output).
        scales: how many times larger than ``h_i`` each source is.
        depth: index among all cells of the network, for ScheduledDropPath.
    """

    name: str
    cell: CellGenotype
    filters: int
    stride: int
    sources: tuple[tuple[str, int], ...]
    scales: tuple[int, ...]
    depth: int


@dataclass(frozen=True)
class Plan:
    """The cells of a network in order, and the states that the classifier joins."""

    cells: tuple[PlannedCell, ...]
    head_sources: tuple[tuple[str, int], ...]
    head_scales: tuple[int, ...]


def plan_cells(architecture: Architecture) -> Plan:
    """Lays out the cells of a network: three stacks with a reduction cell between them."""
    a, genotype = architecture, architecture.genotype
    layout: list[tuple[str, CellGenotype, int, int]] = []
    if a.stem == "imagenet":
        layout += [(f"Stem_Cell_{k}", genotype.reduction, a.filters // (4, 2)[k], 2) for k in (0, 1)]
    first = 0
    for stack in range(STACKS):
        filters = a.filters * 2**stack
        if stack:
            layout.append((f"Reduction_Cell_{stack - 1}", genotype.reduction, filters, 2))
        cells = a.cells - 1 if stack and a.count_reduction_cells else a.cells
        layout += [(f"Cell_{k}", genotype.normal, filters, 1) for k in range(first, first + cells)]
        first += cells

    # Every state so far as (end point, downsampling); labelled cells start from copies of the stem.
    history = [("Stem_Conv", 1)]
    labelled, inputs = genotype.normal.labelled, genotype.normal.inputs
    if labelled or a.repeat_stem:
        history *= inputs
    planned: list[PlannedCell] = []
    for depth, (name, cell, filters, stride) in enumerate(layout):
        recent = list(reversed(history[-inputs:]))
        after_reduction = stride == 1 and len(planned) > 1 and planned[-1].stride == 2
        in_stack = name.startswith("Cell") and name != "Cell_0"
        if a.skip_reduction_layer_input and after_reduction and in_stack and not labelled:
            recent[1] = history[-3]
        sources, scales = _sources(recent, labelled)
        planned.append(PlannedCell(name, cell, filters, stride, sources, scales, depth))
        history.append((name, history[-1][1] * stride))
    head = list(reversed(history[-inputs:])) if labelled else history[-1:]
    return Plan(tuple(planned), *_sources(head, labelled))


def _sources(
    states: Sequence[tuple[str, int]], labelled: bool
) -> tuple[tuple[tuple[str, int], ...], tuple[int, ...]]:
    """Names with output numbers, and scales, of states given latest first.

    The k-th latest cell passes on its output k, the stem the only one that it has.
    """
    named = tuple(
        (name, k if labelled and name != "Stem_Conv" else 0) for k, (name, _) in enumerate(states)
    )
    return named, tuple(states[0][1] // scale for _, scale in states)


def _stem(stem: str, filters: int) -> Primitives:
    stride, padding = (2, "valid") if stem == "imagenet" else (1, "same")
    return Conv(3, stride, filters=filters, padding=padding), BatchNorm()


def auxiliary_kernel(architecture: Architecture) -> int:
    """Kernel of the auxiliary head's last convolution: the whole map at the nominal image size.

    Raises:
        ValueError: if the nominal image is too small for an auxiliary head.
    """
    size = architecture.image_size
    if architecture.stem == "imagenet":
        size = (((size - 3) // 2 + 1) + 3) // 4
    size = (size + 1) // 2
    if size < 5:
        raise ValueError(
            "Expected an image_size whose map at the auxiliary head is at least 5x5. "
            f"Received: image_size={architecture.image_size} (a map of {size}x{size})"
        )
    return (size - 5) // 3 + 1


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class Stem(SequenceLayer):
    """The first convolution and its batch norm; arguments as in `Architecture`."""

    def __init__(self, stem: str, stem_filters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stem, self.stem_filters = stem, stem_filters

    def primitives(self) -> Primitives:
        return _stem(self.stem, self.stem_filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stem": self.stem, "stem_filters": self.stem_filters}


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class AuxiliaryHead(SequenceLayer):
    """The auxiliary classifier ([S]): (batch, classes) from a cell's output.

    ReLU, 5x5 average pool with stride 3, 1x1 convolution to 128, batch norm, ReLU, ``kernel`` x
    ``kernel`` convolution to 768, batch norm, ReLU, dense; all VALID. On larger images than the
    kernel was made for, the mean over the remaining map is classified.

    Args:
        classes: number of outputs.
        kernel: see `auxiliary_kernel`.
        activation: of the outputs; None for logits.
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


def network_graph(architecture: Architecture, classes: int) -> Graph:
    """The whole network, from image to logits, as one graph of primitives (input ``image``)."""
    plan = plan_cells(architecture)
    stem = Node("Stem_Conv", ("image",), primitives=_stem(architecture.stem, architecture.stem_filters))
    nodes = [stem]
    states: dict[str, tuple[str, ...]] = {"Stem_Conv": ("Stem_Conv",)}
    shapes: dict[str, Shape] = {"Stem_Conv": (None, None, architecture.stem_filters)}

    def append(name: str, part: Graph, sources: Sequence[str]) -> None:
        renamed = part.renamed(name, dict(zip(part.inputs, sources, strict=True)))
        nodes.extend(renamed.nodes)
        states[name] = renamed.outputs
        made = part.output_shapes([shapes[source] for source in sources])
        shapes.update(zip(renamed.outputs, made, strict=True))

    for cell in plan.cells:
        sources = [states[name][k] for name, k in cell.sources]
        channels = [shapes[source][2] for source in sources]
        append(
            cell.name, cell_graph(cell.cell, cell.filters, cell.stride, channels, cell.scales), sources
        )
    sources = [states[name][k] for name, k in plan.head_sources]
    append("Head", join_graph([shapes[source][2] for source in sources], plan.head_scales), sources)
    top = (Relu(), GlobalAveragePool(), Dense(classes))
    nodes.append(Node("Logits", states["Head"], primitives=top))
    return Graph(("image",), tuple(nodes), ("Logits",))


@checked
def architecture_cost(
    architecture: Architecture, classes: PositiveInt = 1000, image_size: PositiveInt | None = None
) -> Cost:
    """Parameters and multiply-adds of a network with its classifier.

    Args:
        architecture: the network.
        classes: outputs of the classifier.
        image_size: height and width in pixels. Default: the architecture's.
    """
    size = image_size or architecture.image_size
    return graph_cost(network_graph(architecture, classes), [(size, size, architecture.channels)])


def build_model(
    architecture: Architecture,
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
    """Builds the Keras model of an architecture on the tensor ``inputs``.

    The arguments are those of `nasnet_zoo.NASNet`. Every cell is one layer, named as its end point.
    """
    a = architecture
    common = {"hyperparameters": a.hyperparameters}
    plan = plan_cells(a)

    # === Functional Model ===
    x = Stem(a.stem, a.stem_filters, name="Stem_Conv", **common)(inputs)
    states = {"Stem_Conv": [x]}
    for cell in plan.cells:
        drop_path = None
        if drop_path_keep < 1.0:
            drop_path = ScheduledDropPath(
                drop_path_keep,
                drop_path_steps or 0,
                cell.depth,
                len(plan.cells),
                drop_path_version,
                name=f"{cell.name}_drop_path",
            )
        x = Cell(
            cell.cell,
            cell.filters,
            cell.stride,
            cell.scales,
            drop_path=drop_path,
            gradient_checkpointing=gradient_checkpointing,
            name=cell.name,
            **common,
        )([states[source][k] for source, k in cell.sources])
        states[cell.name] = x if isinstance(x, list) else [x]

    sources = [states[source][k] for source, k in plan.head_sources]
    x = JoinStates(plan.head_scales, name="Head", **common)(sources) if len(sources) > 1 else sources[0]
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
    names = list(states)
    last_before_reduction = states[names[names.index("Reduction_Cell_1") - 1]][0]
    auxiliary = AuxiliaryHead(
        classes, auxiliary_kernel(a), classifier_activation, name="auxiliary", **common
    )
    return keras.Model(inputs, [x, auxiliary(last_before_reduction)], name=name)


def _classifier(
    a: Architecture, classes: int, activation: Any, class_names: Sequence[str] | None
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


@checked
def end_points(model: keras.Model) -> dict[str, Any]:
    """The named states inside a model of the zoo, by TF-Slim's names.

    Args:
        model: a model of this package, new or loaded.

    Returns:
        From ``Stem``, ``Cell_0``.., ``Reduction_Cell_0``.. (and ``global_pool``, ``predictions``,
        ``auxiliary`` where the model has them) to the symbolic tensor, or to the list of labelled
        outputs for NASNet-B. `keras.Model(model.input, end_points(model)["Cell_3"])` cuts a
        feature extractor out.

    Raises:
        ValueError: if the model is not of this package.
    """
    if not any(isinstance(layer, Stem) for layer in model.layers):
        raise ValueError(f"Expected a model of nasnet_zoo. Received: {model}")
    points: dict[str, Any] = {}
    for layer in model.layers:
        if layer.name.startswith("Stem_"):
            points["Stem"] = layer.output
        elif layer.name.startswith(("Cell_", "Reduction_Cell_")) or layer.name in _NAMED:
            points[layer.name] = layer.output
    return points


_NAMED = ("global_pool", "predictions", "auxiliary")


def architecture_of(model: keras.Model) -> Architecture:
    """The architecture that a model of the zoo was built of.

    Args:
        model: a model of this package, new or loaded, with or without its classifier.

    Returns:
        An architecture that builds the same cells on the same states; its genotype has the model's
        name. ``image_size`` and ``dropout``, on which neither cells nor their weights depend, are the
        defaults.

    Raises:
        ValueError: if the model is not of this package, or its cells are connected in another way.
    """
    end_points(model)  # of this package, or refused
    stem, found = model.get_layer("Stem_Conv"), {}
    for layer in model.layers:
        if isinstance(layer, Cell):
            states = [tensor._keras_history for tensor in keras.tree.flatten(layer.input)]
            sources = tuple((state.operation.name, state.tensor_index) for state in states)
            scales = layer.scales or (1,) * len(sources)
            read_off = (layer.cell, layer.filters, layer.stride, sources, scales)
            found[layer.name] = PlannedCell(layer.name, *read_off, depth=0)
    normal = [cell for name, cell in found.items() if name.startswith("Cell_")]
    reduction = [cell for name, cell in found.items() if name.startswith("Reduction_Cell_")]
    # All else that an architecture says is the cells' own.
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
        planned = plan_cells(architecture).cells
        if {cell.name: dataclasses.replace(cell, depth=0) for cell in planned} == found:
            return architecture
    raise ValueError(
        f"Expected a model whose cells are connected as an Architecture says. Received: {model}"
    )


@checked
def inference_model(model: keras.Model) -> keras.Model:
    """The model without its auxiliary head, sharing all other weights: what is used and exported.

    Args:
        model: a Keras model. One without an auxiliary head of ours comes back as it is.
    """
    if not any(isinstance(layer, AuxiliaryHead) for layer in model.layers):
        return model
    return keras.Model(model.input, model.get_layer("predictions").output, name=model.name)


def feature_extractor(model: keras.Model, at: Sequence[int | str]) -> keras.Model:
    """Cuts a backbone out of a model of the zoo.

    Args:
        model: a model of this package, new or loaded, with or without its classifier.
        at: for each output an end point's name, or a stride: then the last state at that fraction
            of the image's size. ImageNet networks have 2, 4, 8, 16 and 32, CIFAR networks 1, 2 and 4.

    Returns:
        A model with the same input and a list of feature maps (batch, height, width, channels) in
        the order of ``at``, as the cells leave them: before a ReLU. NASNet-B's labelled states are
        concatenated along channels.

    Raises:
        ValueError: if the model is not of this package, or has no such state.

    Example::

        backbone = feature_extractor(NASNetMobile(weights="imagenet", include_top=False), (8, 16, 32))
        c3, c4, c5 = backbone(images)
    """
    if not at:
        raise ValueError(f"Expected at: at least one end point or stride. Received: {at=}")
    states, strides, stride = end_points(model), {}, 1
    for layer in model.layers:
        if isinstance(layer, Stem):
            stride *= 2 if layer.stem == "imagenet" else 1
        elif isinstance(layer, Cell):
            stride *= layer.stride
        else:
            continue
        states[layer.name] = strides[stride] = layer.output
    outputs = []
    for key in at:
        known: dict[Any, Any] = strides if isinstance(key, int) else states
        if key not in known:
            raise ValueError(f"Expected one of {[*strides, *states]}. Received: {key!r}")
        state = known[key]
        outputs.append(keras.ops.concatenate(state, axis=-1) if isinstance(state, list) else state)
    return keras.Model(model.input, outputs, name=f"{model.name}_features")
