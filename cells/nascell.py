"""The recurrent cells that the search found, as data: NASCELL and NASCELL_MAX ([Z] Figure 8).

NASCELL is the ``NASCell`` of TensorFlow (contrib, then Addons). NASCELL_MAX is of the search to whose
lists ``max`` and ``sin`` were added; no code of it was ever released.
"""

from __future__ import annotations

from .recurrent import RecurrentGenotype, TreeNode

NASCELL = RecurrentGenotype(
    "NASCell",
    (
        TreeNode("add", "sigmoid"),  # 0
        TreeNode("add", "relu"),  # 1
        TreeNode("add", "sigmoid"),  # 2
        TreeNode("elem_mult", "relu"),  # 3
        TreeNode("add", "tanh"),  # 4
        TreeNode("add", "sigmoid"),  # 5
        TreeNode("add", "tanh"),  # 6
        TreeNode("add", "sigmoid"),  # 7
        TreeNode("elem_mult", "tanh"),  # 8 of 0 and 1
        TreeNode("add", "tanh"),  # 9 of 2 and 3
        TreeNode("elem_mult", "tanh"),  # 10 of 4 and 5
        TreeNode("add", "sigmoid"),  # 11 of 6 and 7
        TreeNode("elem_mult", "identity"),  # 12 of 8 and 9
        TreeNode("add", "tanh"),  # 13 of 10 and 11
        TreeNode("elem_mult", "tanh"),  # 14 of 12 and 13
    ),
    inject=TreeNode("add", "tanh"),
    cell_indices=(12, 8),
)

NASCELL_MAX = RecurrentGenotype(
    "NASCell with max",
    (
        TreeNode("max", "identity"),  # 0
        TreeNode("max", "tanh"),  # 1
        TreeNode("add", "tanh"),  # 2
        TreeNode("add", "relu"),  # 3
        TreeNode("add", "tanh"),  # 4
        TreeNode("add", "identity"),  # 5
        TreeNode("add", "tanh"),  # 6
        TreeNode("max", "tanh"),  # 7
        TreeNode("add", "identity"),  # 8 of 0 and 1
        TreeNode("add", "sigmoid"),  # 9 of 2 and 3
        TreeNode("add", "sigmoid"),  # 10 of 4 and 5
        TreeNode("add", "sigmoid"),  # 11 of 6 and 7
        TreeNode("elem_mult", "identity"),  # 12 of 8 and 9
        TreeNode("elem_mult", "sigmoid"),  # 13 of 10 and 11
        TreeNode("elem_mult", "tanh"),  # 14 of 12 and 13
    ),
    inject=TreeNode("add", "identity"),
    cell_indices=(12, 1),
)
