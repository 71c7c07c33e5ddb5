"""The search for cells: so far its space."""

from .space import random_genotype

__all__ = ["random_genotype"]
