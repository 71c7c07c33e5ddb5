"""The models of the papers' tables as data."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from nasnet_zoo.architecture import Architecture, LayerwiseArchitecture, Network, architecture_cost
from nasnet_zoo.bases import CondenseArchitecture, TreeArchitecture
from nasnet_zoo.cells import (
    AMOEBANET_A,
    CIFAR,
    CONV_3X3,
    DARTS_V2,
    ENAS,
    NAS_V1,
    NASNET_A,
    NASNET_B,
    NASNET_C,
    PNASNET_5,
    TREECELL_A,
    TREECELL_B,
    Genotype,
)


@dataclass(frozen=True)
class Preset:
    """A row of the papers' tables.

    Args:
        title: Name of the model in the paper.
        architecture: Network that is built.
        classes: Number of classes of its data set.
        parameters: Published number of parameters in millions; None for a model of ours.
        mult_adds: Published multiply-adds in millions; None where the paper gives none.
        accuracy: Published accuracy, as the paper prints it; for a model of ours, measured.
        reading: How the architecture was chosen where the paper leaves it open. Default: "".
        paper: Where the model was published. Default: [N], the paper of NASNet, arXiv 1707.07012.
    """

    title: str
    architecture: Network
    classes: int
    parameters: float | None
    mult_adds: float | None
    accuracy: str
    reading: str = ""
    paper: str = "[N]"


def _imagenet(
    genotype: Genotype, cells: int, filters: int, stem_filters: int, size: int, **rules: Any
) -> Architecture:
    return Architecture(
        genotype, cells, filters, "imagenet", stem_filters, image_size=size, dropout=0.5, **rules
    )


def _cifar(
    genotype: Genotype, cells: int, filters: int, stem_filters: int, **rules: Any
) -> Architecture:
    return Architecture(genotype, cells, filters, "cifar", stem_filters, **rules)


def _trees(
    title: str,
    architecture: TreeArchitecture,
    parameters: float,
    accuracy: str,
    reading: str = "",
) -> Preset:
    a = architecture
    width = "k" if a.base == "densenet" else "alpha"
    groups = "" if a.genotype == CONV_3X3 else f", G = {a.groups}"
    title = f"{title} (N = {a.cells}, {width} = {a.width}{groups}), CIFAR-10"
    return Preset(title, a, 10, parameters, None, accuracy, reading, paper="arXiv 1806.02639")


_B_READING = (
    "No reading of the appendix meets the published figures exactly. Taken: separable convolutions "
    "applied once and inputs adapted only where the resolution differs"
)

_AMOEBANET_READING = (
    "The 1x7 7x1 convolution runs on F/4 filters, as in the authors' release (on F it gives 10 to "
    "12 % too many parameters). The release strides one axis in each of its two steps, here the first "
    "step strides both: at most 0.4 % fewer mult-adds."
)

_TREE_READING = (
    "The paper does not say whether the branches of a DenseNet's cells have the batch norm that those "
    "of the released PyramidNets have before their sum: here they have."
)

_CONDENSED = (
    "Multiply-adds are those after training, but for the classifier, which `transform.condense` halves "
    "(1.0 M fewer); parameters are those before. The released cells shuffle channels behind grouped "
    "convolutions, which only numbers them otherwise."
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
        architecture=_imagenet(NASNET_A, 6, 168, 96, 331, skip_reduction_layer_input=True),
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
        architecture=_imagenet(PNASNET_5, 3, 54, 32, 224, count_reduction_cells=True),
        classes=1000,
        parameters=5.1,
        mult_adds=588,
        accuracy="74.2 / 91.9 %",
        paper="arXiv 1712.00559",
    ),
    "pnasnet_5_large": Preset(
        title="PNASNet-5 (N = 4, F = 216), Large",
        architecture=_imagenet(PNASNET_5, 4, 216, 96, 331, count_reduction_cells=True),
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
        architecture=_cifar(ENAS, 6, 36, 108, repeat_stem=True),
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
        architecture=_cifar(DARTS_V2, 6, 36, 108, repeat_stem=True),
        classes=10,
        parameters=3.3,
        mult_adds=None,
        accuracy="2.76 % error (with cutout)",
        reading="The parameters are those of the released network, to the last one (3,349,342). The "
        "released network has no ReLU before its global pool and applies its auxiliary head after "
        "the second reduction cell; both are NASNet's here.",
        paper="arXiv 1806.09055",
    ),
    "nas_v1_cifar": Preset(
        title="NAS v1, no stride or pooling, CIFAR-10",
        architecture=LayerwiseArchitecture(NAS_V1),
        classes=10,
        parameters=4.2,
        mult_adds=None,
        accuracy="5.50 % error",
        reading="A layer is convolution, batch norm, ReLU, SAME padded; the classifier is a dense "
        "layer after global average pooling (without pooling it would have 4.69 M parameters). The "
        "second arrow from layer 1 to layer 10 in figure 7 is left out. The paper's controls have the "
        'genotypes `NAS_V1.connected("all")`, every layer reading all before it (6.6 M parameters, '
        '5.56 % error as published), and `NAS_V1.connected("chain")`, without skip connections (0.8 M, '
        "7.97 %).",
        paper="arXiv 1611.01578",
    ),
    "treecell_a_densenet_6_48_cifar": _trees(
        "TreeCell-A DenseNet",
        TreeArchitecture(TREECELL_A, "densenet", 6, 48),
        parameters=3.2,
        accuracy="3.64 % error",
        reading=_TREE_READING,
    ),
    "treecell_a_densenet_16_48_cifar": _trees(
        "TreeCell-A DenseNet",
        TreeArchitecture(TREECELL_A, "densenet", 16, 48),
        parameters=13.1,
        accuracy="3.35 % error",
        reading=_TREE_READING,
    ),
    "treecell_b_densenet_6_48_cifar": _trees(
        "TreeCell-B DenseNet",
        TreeArchitecture(TREECELL_B, "densenet", 6, 48),
        parameters=3.2,
        accuracy="3.71 % error",
        reading=_TREE_READING,
    ),
    "treecell_a_pyramidnet_18_84_cifar": _trees(
        "TreeCell-A PyramidNet",
        TreeArchitecture(TREECELL_A, "pyramidnet", 18, 84),
        parameters=5.7,
        accuracy="3.14 % error (2.99 % with DropPath, 2.49 % with cutout too)",
    ),
    "treecell_b_pyramidnet_18_84_cifar": _trees(
        "TreeCell-B PyramidNet",
        TreeArchitecture(TREECELL_B, "pyramidnet", 18, 84),
        parameters=5.6,
        accuracy="3.40 % error",
    ),
    "treecell_a_pyramidnet_18_150_cifar": _trees(
        "TreeCell-A PyramidNet",
        TreeArchitecture(TREECELL_A, "pyramidnet", 18, 150),
        parameters=14.3,
        accuracy="2.30 % error (with DropPath and cutout)",
        reading="The parameters are those of the released network, to the last one (14,293,302).",
    ),
    "densenet_bc_31_40_cifar": _trees(
        "DenseNet-BC",
        TreeArchitecture(CONV_3X3, "densenet", 31, 40),
        parameters=25.6,
        accuracy="3.46 % error",
        reading="The paper's control, the network of 190 layers of Huang et al. (arXiv 1608.06993).",
    ),
    "treecell_a_condensenet_mobile": Preset(
        "TreeCell-A CondenseNet (G1 = 4, G3 = 8), ImageNet",
        CondenseArchitecture(TREECELL_A, cell_layers=(0, 0, 5, 7, 6)),
        classes=1000,
        parameters=None,
        mult_adds=588,
        accuracy="25.5 % / 8.0 % error (top-1, top-5)",
        reading="How many layers have cells is published for TreeCell-B alone; as many as there would "
        f"be 600.7 M multiply-adds, with one fewer in the third stage there are 588.1 M. {_CONDENSED}",
        paper="arXiv 1806.02639",
    ),
    "treecell_b_condensenet_mobile": Preset(
        "TreeCell-B CondenseNet (G1 = 4, G3 = 8), ImageNet",
        CondenseArchitecture(TREECELL_B),
        classes=1000,
        parameters=None,
        mult_adds=594,
        accuracy="25.4 % / 8.1 % error (top-1, top-5)",
        reading=_CONDENSED,
        paper="arXiv 1806.02639",
    ),
    "nasnet_a_1_384_fashion_mnist": Preset(
        title="NASNet-A (1 @ 384), Fashion-MNIST",
        architecture=_cifar(NASNET_A, 1, 16, 32, image_size=28, channels=1),
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
    """Return the names of the models that `create_model` builds."""
    return list(PRESETS)


def find_preset(model: str) -> Preset:
    """Look up a model by its name.

    Raises:
        ValueError: If there is no such model.
    """
    if model not in PRESETS:
        raise ValueError(f"Expected one of {', '.join(PRESETS)}. Received: {model=}")
    return PRESETS[model]


def model_name(architecture: Network) -> str:
    """Name a network.

    Args:
        architecture: The network. Its image size, channels, dropout and hyperparameters are ignored.

    Returns:
        The name in `list_models()` of the same network. If there is none: genotype, N and channels of
        the last features, as in the papers' "NASNet-A (6 @ 768)": "nasnet_a_6_768"; of a layer-wise
        network genotype and number of layers; of one of tree cells genotype, base, N and width, of a
        CondenseNet genotype and number of layers.
    """

    def network(a: Network) -> Network:
        genotype = dataclasses.replace(a.genotype, name="any")
        hyperparameters = None if isinstance(a, Architecture) else CIFAR
        return a.replace(
            genotype=genotype,
            image_size=32,
            dropout=0.0,
            hyperparameters=hyperparameters,
            channels=3,
        )

    for name, preset in PRESETS.items():
        if network(preset.architecture) == network(architecture):
            return name
    genotype = re.sub(r"\W+", "_", architecture.genotype.name.lower()).strip("_") or "network"
    if isinstance(architecture, TreeArchitecture):
        return f"{genotype}_{architecture.base}_{architecture.cells}_{architecture.width}"
    if isinstance(architecture, CondenseArchitecture):
        return f"{genotype}_condensenet_{sum(architecture.stages)}"
    if not isinstance(architecture, Architecture):
        return f"{genotype}_{len(architecture.genotype.layers)}"
    # The classifier has a kernel and a bias for every class.
    one, two = (architecture_cost(architecture, classes).parameters for classes in (1, 2))
    suffix = "_cifar" if architecture.stem == "cifar" else ""
    return f"{genotype}_{architecture.cells}_{two - one - 1}{suffix}"
