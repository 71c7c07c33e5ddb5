"""The tree cells of the paper, and the layers that they grew from ([P] figure 6 and its release)."""

from __future__ import annotations

from .tree import PathNode, TreeGenotype


def _add(*branches: tuple[str, PathNode | None]) -> PathNode:
    return PathNode(branches, "add", "copy")


def _one(edge: str) -> PathNode:
    return PathNode(((edge, None),))


#: A 3x3 convolution, and one by groups: the layers of the base networks.
CONV_3X3 = TreeGenotype("3x3 convolution", _one("conv3"))
GROUPED_CONV_3X3 = TreeGenotype("grouped 3x3 convolution", _one("gconv3"))

_SPLIT = PathNode((("avg3", None), ("sep7", None)), "concat", "split")

TREECELL_A = TreeGenotype(
    "TreeCell-A",
    _add(
        (
            "gconv3",
            _add(("conv1", _SPLIT), ("max3", _add(("sep3", None), ("sep5", None)))),
        ),
        (
            "gconv3",
            _add(
                ("sep5", _add(("sep5", None), ("avg3", None), ("avg3", None))),
                ("sep3", _add(("avg3", None), ("sep3", None))),
            ),
        ),
    ),
)

TREECELL_B = TreeGenotype(
    "TreeCell-B",
    _add(
        ("gconv3", _add(("conv1", _one("sep5")), ("sep7", _one("avg3")))),
        (
            "gconv3",
            _add(("avg3", _add(("sep7", None), ("conv1", None))), ("sep7", _one("avg3"))),
        ),
    ),
)
