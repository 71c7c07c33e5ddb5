from .cost import Cost, graph_cost
from .drop_path import DropPathSchedule, ScheduledDropPath
from .genotype import Block, CellGenotype, Genotype
from .graph import Graph, Node, cell_graph
from .layers import Cell, GraphLayer, JoinStates, NASLayer, Operation, SequenceLayer
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

__all__ = [
    "AMOEBANET_A",
    "CIFAR",
    "COMBINATIONS",
    "DARTS_V2",
    "ENAS",
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
    "TREE_ACTIVATIONS",
    "TREE_COMBINATIONS",
    "Block",
    "Cell",
    "CellGenotype",
    "Cost",
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
    "RecurrentCell",
    "RecurrentGenotype",
    "ScheduledDropPath",
    "SequenceLayer",
    "TreeNode",
    "cell_graph",
    "graph_cost",
    "recurrent_step",
    "register_combination",
    "register_operation",
]
