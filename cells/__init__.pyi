from .base_blocks import BaseBlock, CondenseHead, CondenseLayer, DenseLayer, PyramidBlock, TreeCell
from .chain import (
    EAS_PLAIN,
    EAS_SMALL,
    ChainGenotype,
    ChainLayer,
    DenseNetGenotype,
    PlainGenotype,
)
from .cost import Cost, graph_cost
from .drop_path import DropPathSchedule, ScheduledDropPath
from .genotype import Block, CellGenotype, Genotype
from .graph import Graph, Node, cell_graph
from .layers import BlockLayer, Cell, GraphLayer, JoinStates, NASLayer, Operation, SequenceLayer
from .layerwise import LayerGenotype, LayerwiseGenotype
from .nas import NAS_V1
from .nascell import NASCELL, NASCELL_MAX
from .nasnet import NASNET_A, NASNET_B, NASNET_C
from .operations import (
    COMBINATIONS,
    OPERATIONS,
    SEARCH_COMBINATIONS,
    SEARCH_OPERATIONS,
    register_combination,
    register_operation,
)
from .primitives import CIFAR, IMAGENET, Hyperparameters
from .recurrent import (
    TREE_ACTIVATIONS,
    TREE_COMBINATIONS,
    RecurrentGenotype,
    TreeNode,
    recurrent_step,
)
from .recurrent_layers import NASCell, RecurrentCell
from .relatives import AMOEBANET_A, DARTS_V2, ENAS, PNASNET_5
from .tree import EDGES, PathNode, TreeGenotype
from .treecells import CONV_3X3, GROUPED_CONV_3X3, TREECELL_A, TREECELL_B

__all__ = [
    "AMOEBANET_A",
    "CIFAR",
    "COMBINATIONS",
    "CONV_3X3",
    "DARTS_V2",
    "EAS_PLAIN",
    "EAS_SMALL",
    "EDGES",
    "ENAS",
    "GROUPED_CONV_3X3",
    "IMAGENET",
    "NASCELL",
    "NASCELL_MAX",
    "NASNET_A",
    "NASNET_B",
    "NASNET_C",
    "NAS_V1",
    "OPERATIONS",
    "PNASNET_5",
    "SEARCH_COMBINATIONS",
    "SEARCH_OPERATIONS",
    "TREECELL_A",
    "TREECELL_B",
    "TREE_ACTIVATIONS",
    "TREE_COMBINATIONS",
    "BaseBlock",
    "Block",
    "BlockLayer",
    "Cell",
    "CellGenotype",
    "ChainGenotype",
    "ChainLayer",
    "CondenseHead",
    "CondenseLayer",
    "Cost",
    "DenseLayer",
    "DenseNetGenotype",
    "DropPathSchedule",
    "Genotype",
    "Graph",
    "GraphLayer",
    "Hyperparameters",
    "JoinStates",
    "LayerGenotype",
    "LayerwiseGenotype",
    "NASCell",
    "NASLayer",
    "Node",
    "Operation",
    "PathNode",
    "PlainGenotype",
    "PyramidBlock",
    "RecurrentCell",
    "RecurrentGenotype",
    "ScheduledDropPath",
    "SequenceLayer",
    "TreeCell",
    "TreeGenotype",
    "TreeNode",
    "cell_graph",
    "graph_cost",
    "recurrent_step",
    "register_combination",
    "register_operation",
]
