"""The cells of the paper as data: NASNET_A, NASNET_B and NASNET_C ([N] Figure 4 and appendix).

A is as released in TF-Slim. B and C are read off the appendix's figures; no code or weights of
them were ever released.
"""

from __future__ import annotations

from .genotype import Block, CellGenotype, Genotype

NASNET_A = Genotype(
    "NASNet-A",
    normal=CellGenotype(
        (
            Block((0, 1), ("sep_5x5", "sep_3x3")),
            Block((1, 1), ("sep_5x5", "sep_3x3")),
            Block((0, 1), ("avg_3x3", "identity")),
            Block((1, 1), ("avg_3x3", "avg_3x3")),
            Block((0, 0), ("sep_3x3", "identity")),
        ),
        outputs=(1, 2, 3, 4, 5, 6),
    ),
    reduction=CellGenotype(
        (
            Block((0, 1), ("sep_5x5", "sep_7x7")),
            Block((0, 1), ("max_3x3", "sep_7x7")),
            Block((0, 1), ("avg_3x3", "sep_5x5")),
            Block((3, 2), ("identity", "avg_3x3")),
            Block((2, 0), ("sep_3x3", "max_3x3")),
        ),
        outputs=(3, 4, 5, 6),
    ),
)

# States 0-3 are h0-h3 (h_k is output k of the cell k+1 before this one); blocks are 4-7.
NASNET_B = Genotype(
    "NASNet-B",
    normal=CellGenotype(
        (
            Block((0, 1), ("identity", "sep_once_3x3"), "ln_add"),
            Block((0, 3), ("sep_once_5x5", "sep_once_3x3"), "ln_add"),
            Block((1, 3), ("sep_once_3x3", "identity"), "ln_add"),
            Block((1, 2), ("sep_once_5x5", "identity"), "ln_add"),
        ),
        outputs=(7, 5, 6, 4),
        inputs=4,
        labelled=True,
    ),
    reduction=CellGenotype(
        (
            Block((0, 1), ("sep_once_3x3", "sep_once_3x3"), "ln_add"),
            Block((0, 4), ("avg_3x3", "1x3_3x1"), "add"),
            Block((1, 3), ("sep_once_3x3", "identity"), "ln_add"),
            Block((2, 3), ("identity", "avg_3x3"), "add"),
        ),
        outputs=(4, 6, 7, 5),
        inputs=4,
        labelled=True,
    ),
)

NASNET_C = Genotype(
    "NASNet-C",
    normal=CellGenotype(
        (
            Block((0, 0), ("sep_3x3", "sep_5x5"), "add"),
            Block((0, 1), ("sep_3x3", "sep_3x3"), "in_add"),
            Block((0, 1), ("sep_3x3", "sep_3x3"), "concat"),
            Block((1, 1), ("sep_3x3", "1x3_3x1"), "ln_add"),
        )
    ),
    reduction=CellGenotype(
        (
            Block((0, 0), ("max_3x3", "max_3x3"), "concat"),
            Block((0, 1), ("1x7_7x1", "max_3x3"), "ln_add"),
            Block((0, 1), ("max_3x3", "max_3x3"), "in_add"),
            Block((1, 1), ("sep_7x7", "max_5x5"), "ln_add"),
        )
    ),
)
