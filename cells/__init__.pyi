from .cost import Cost, graph_cost
from .drop_path import DropPathSchedule, ScheduledDropPath
from .genotype import Block, CellGenotype, Genotype
from .graph import Graph, Node, cell_graph
from .layers import Cell, GraphLayer, JoinStates, Operation, SequenceLayer
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
from .relatives import AMOEBANET_A, DARTS_V2, ENAS, PNASNET_5

__all__ = [
    "AMOEBANET_A",
    "CIFAR",
    "COMBINATIONS",
    "DARTS_V2",
    "ENAS",
    "IMAGENET",
    "NASNET_A",
    "NASNET_B",
    "NASNET_C",
    "OPERATIONS",
    "PNASNET_5",
    "SEARCH_COMBINATIONS",
    "SEARCH_OPERATIONS",
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
    "Node",
    "Operation",
    "ScheduledDropPath",
    "SequenceLayer",
    "cell_graph",
    "graph_cost",
    "register_combination",
    "register_operation",
]
