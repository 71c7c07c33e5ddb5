"""The search for cells."""

from .space import SearchSpace

__all__ = ["SearchSpace"]
