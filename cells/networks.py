"""The genotypes from which networks of images are built."""

from __future__ import annotations

from typing import Any

from .chain import ChainGenotype
from .genotype import Genotype
from .layerwise import LayerwiseGenotype
from .tree import TreeGenotype

NetworkGenotype = Genotype | LayerwiseGenotype | TreeGenotype | ChainGenotype


def network_genotype(data: Any) -> NetworkGenotype:
    """Build a genotype of any kind from the dict of its `to_dict`.

    Raises:
        ValueError: If the data is invalid. The message names the place.
    """
    keys = data if isinstance(data, dict) else ()
    if "e" in keys:
        return TreeGenotype.from_dict(data)
    if "chain" in keys:
        return ChainGenotype.from_dict(data)
    return (LayerwiseGenotype if "layers" in keys else Genotype).from_dict(data)
