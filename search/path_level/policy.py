"""The policy of path-level search: REINFORCE over trees ([P] section 3.3 and its release)."""

from __future__ import annotations

from typing import ClassVar

import keras
import numpy as np

from nasnet_zoo.checking import (
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Seed,
    Share,
    checked,
)
from nasnet_zoo.search.policies import Correction, PolicyGradient

from .controller import TreeController
from .space import TreeCellSpace


class TreeReinforce(PolicyGradient):
    """REINFORCE over trees, with the settings of the release as defaults.

    As there the baseline of a minibatch is the moving average with its own rewards, of which the
    latest weigh 0.95, and a minibatch of equal rewards changes nothing. The paper draws minibatches of
    10 and rewards an accuracy with ``tan(accuracy * 1.5707963)``.

    Args:
        space: Search space.
        seed: Seed of the controller's weights and draws.
        units: Units of the controller's LSTMs.
        learning_rate: Learning rate of Adam.
        entropy_weight: Weight of the entropy bonus.
        baseline_weight: Decay of the moving average of rewards, in [0, 1].
        correction: Treatment of children that an earlier version drew: "naive", "ratio" or "decoupled".
        baseline: What the moving average begins with, such as the reward of the network that cells
            grow in. Default: the mean reward of the first minibatch.
        gradient_norm: Norm to which the gradient of all weights is clipped.
        initial: The controller's embeddings are drawn uniformly from [-initial, initial].
    """

    baseline_has_minibatch: ClassVar[bool] = True
    skips_equal: ClassVar[bool] = True

    @checked
    def __init__(
        self,
        space: TreeCellSpace,
        seed: Seed = 0,
        units: PositiveInt = 100,
        learning_rate: PositiveFloat = 0.006,
        entropy_weight: NonNegativeFloat = 0.01,
        baseline_weight: Share = 0.05,
        correction: Correction = "ratio",
        *,
        baseline: float | None = None,
        gradient_norm: PositiveFloat = 40.0,
        initial: NonNegativeFloat = 0.1,
    ) -> None:
        super().__init__(
            TreeController(space, units, initial=initial, seed=seed),
            keras.optimizers.Adam(learning_rate, global_clipnorm=gradient_norm),
            entropy_weight,
            baseline_weight,
            correction,
        )
        self._baseline = np.nan if baseline is None else baseline
