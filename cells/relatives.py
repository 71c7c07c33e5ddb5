"""Relatives of NASNet as data: PNASNET_5, AMOEBANET_A, ENAS and DARTS_V2.

State 0 is ``h_i`` and state 1 is ``h_{i-1}``, as in NASNet. The released files of ENAS and DARTS
number the two the other way round.
"""

from __future__ import annotations

from .genotype import Block, CellGenotype, Genotype

# Liu et al., Progressive Neural Architecture Search, arXiv 1712.00559, Figure 1; the table of
# TF-Slim's nets/nasnet/pnasnet.py. There is one cell: with stride 2 it is the reduction cell.
_PNASNET_5_CELL = CellGenotype(
    (
        Block((1, 1), ("sep_5x5", "max_3x3")),
        Block((0, 0), ("sep_7x7", "max_3x3")),
        Block((0, 0), ("sep_5x5", "sep_3x3")),
        Block((4, 0), ("sep_3x3", "max_3x3")),
        Block((1, 0), ("sep_3x3", "identity")),
    ),
    outputs=(2, 3, 4, 5, 6),
)
PNASNET_5 = Genotype("PNASNet-5", normal=_PNASNET_5_CELL, reduction=_PNASNET_5_CELL)

# Real et al., Regularized Evolution for Image Classifier Architecture Search, arXiv 1802.01548
# (AAAI 2019, Figure 6); "amoeba_net_a" in model_specs.py of the authors' release for Cloud TPU. Its
# outputs include h_{i-1} in the normal cell and states that blocks read in the reduction cell.
AMOEBANET_A = Genotype(
    "AmoebaNet-A",
    normal=CellGenotype(
        (
            Block((0, 0), ("avg_3x3", "max_3x3")),
            Block((1, 1), ("sep_3x3", "identity")),
            Block((0, 1), ("identity", "avg_3x3")),
            Block((0, 2), ("sep_3x3", "sep_5x5")),
            Block((5, 0), ("avg_3x3", "sep_3x3")),
        ),
        outputs=(1, 3, 4, 6),
    ),
    reduction=CellGenotype(
        (
            Block((1, 0), ("sep_3x3", "avg_3x3")),
            Block((0, 2), ("max_3x3", "sep_7x7")),
            Block((1, 0), ("max_3x3", "max_3x3")),
            Block((4, 0), ("sep_3x3", "bottleneck_1x7_7x1")),
            Block((1, 0), ("avg_3x3", "sep_7x7")),
        ),
        outputs=(2, 3, 4, 5, 6),
    ),
)

# Pham et al., Efficient Neural Architecture Search via Parameter Sharing, arXiv 1802.03268, section
# 3.2, micro search space; ``fixed_arc`` in scripts/cifar10_micro_final.sh of the authors' release.
ENAS = Genotype(
    "ENAS",
    normal=CellGenotype(
        (
            Block((1, 1), ("avg_3x3", "sep_3x3")),
            Block((1, 1), ("skip", "sep_5x5")),
            Block((1, 0), ("skip", "sep_5x5")),
            Block((0, 1), ("sep_3x3", "sep_5x5")),
            Block((1, 0), ("avg_3x3", "sep_5x5")),
        ),
        projections=2,
    ),
    reduction=CellGenotype(
        (
            Block((0, 0), ("sep_3x3", "sep_3x3")),
            Block((1, 1), ("max_3x3", "avg_3x3")),
            Block((0, 3), ("sep_5x5", "sep_5x5")),
            Block((0, 1), ("sep_3x3", "skip")),
            Block((1, 0), ("max_3x3", "sep_5x5")),
        ),
        projections=2,
    ),
)

# Liu et al., DARTS: Differentiable Architecture Search, arXiv 1806.09055, Figures 4 and 5; DARTS_V2
# in cnn/genotypes.py of the authors' release.
DARTS_V2 = Genotype(
    "DARTS-V2",
    normal=CellGenotype(
        (
            Block((1, 0), ("sep_3x3", "sep_3x3")),
            Block((1, 0), ("sep_3x3", "sep_3x3")),
            Block((0, 1), ("sep_3x3", "skip")),
            Block((1, 2), ("skip", "dil_sep_3x3")),
        ),
        outputs=(2, 3, 4, 5),
    ),
    reduction=CellGenotype(
        (
            Block((1, 0), ("max_3x3", "max_3x3")),
            Block((2, 0), ("skip", "max_3x3")),
            Block((1, 2), ("max_3x3", "skip")),
            Block((2, 0), ("skip", "max_3x3")),
        ),
        outputs=(2, 3, 4, 5),
    ),
)
