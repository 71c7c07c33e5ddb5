"""Networks that are chains grow into wider and deeper ones, which compute the same ([E])."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from nasnet_zoo.bases import PlannedBlock
from nasnet_zoo.cells import ChainGenotype, DenseNetGenotype
from nasnet_zoo.cells.chain import origins, read_blocks
from nasnet_zoo.checking import NonNegativeFloat, Seed, checked
from nasnet_zoo.network import architecture_of

from .deeper import net2deeper
from .miniblocks import copy_miniblock
from .wider import net2wider


@checked
def grow(
    model: keras.Model,
    genotype: ChainGenotype,
    *,
    images: Any = None,
    wider_noise: NonNegativeFloat = 0.0,
    deeper_noise: NonNegativeFloat = 0.0,
    seed: Seed | None = None,
) -> keras.Model:
    """Grow a plain network or a DenseNet into one with wider layers, or more, that computes the same.

    First layers become wider, then convolutions and dense layers get others behind them, and miniblocks
    are copied.

    Args:
        model: Model of a `PlainGenotype` or a `DenseNetGenotype`.
        genotype: What it becomes: its layers, as wide or wider, and layers of equal width behind them.
        images: Sample images, see `net2deeper`. Default: none.
        wider_noise: Noise on the copies of channels, see `net2wider`. [E] has 1e-2. Default: 0.
        deeper_noise: Noise on new layers, see `net2deeper`. [E] has 1e-3. Default: 0.
        seed: Seed of the choice of channels and of the noise. Default: another one at each call.

    Returns:
        A new model. ``model`` is not changed.

    Raises:
        ValueError: If the model is of no chain, or cannot become this one.

    Example::

        model = ChainNet(PlainGenotype.parse("conv-4-3_pool_fc-8"), classes=10)
        grown = grow(model, PlainGenotype.parse("conv-8-3_conv-8-5_pool_fc-8"))
    """
    parts = architecture_of(model).plan().parts
    base = read_blocks(model.name, [p.block for p in parts if isinstance(p, PlannedBlock)])
    if base is None:
        raise ValueError(f"Expected a model of a chain of layers. Received: {model.name!r}")
    sources = origins(base, genotype)
    generator = np.random.default_rng(seed)

    def seed_() -> int:
        return int(generator.integers(2**32))

    names = [name for name, block in base.blocks() if name not in ("Stem_Conv", "Head")]
    for k, layer in enumerate(base.layers):
        units = genotype.layers[sources.index(k)].units
        if units > layer.units:
            model = net2wider(model, names[k], units, noise=wider_noise, seed=seed_())
    for k, layer in enumerate(base.layers):
        first = sources.index(k)
        # Each new layer is put right behind the old one, so the last of them comes first.
        for new in reversed(genotype.layers[first + 1 : first + sources.count(k)]):
            if layer.kind == "g":
                model = copy_miniblock(model, names[k], seed=seed_())
            else:
                model = net2deeper(
                    model,
                    names[k],
                    kernel_size=new.kernel or 1,
                    images=images,
                    noise=deeper_noise,
                    seed=seed_(),
                )
    if isinstance(base, DenseNetGenotype) and isinstance(genotype, DenseNetGenotype):
        stages = ["Stem_Conv", *(f"Transition_{k + 1}" for k in range(len(base.transitions)))]
        before, after = ((g.stem, *g.transitions) for g in (base, genotype))
        for name, old, units in zip(stages, before, after, strict=True):
            if units > old:
                model = net2wider(model, name, units, noise=wider_noise, seed=seed_())
    return model
