"""The policy of EAS: REINFORCE over what episodes do to a network ([E])."""

from __future__ import annotations

from typing import ClassVar

import keras
import tensorflow as tf

from nasnet_zoo.checking import NonNegativeFloat, PositiveFloat, PositiveInt, Seed, Share, checked
from nasnet_zoo.search.policies import Correction, PolicyGradient

from .controller import EASController
from .space import EASSpace


class EASReinforce(PolicyGradient):
    """REINFORCE over what episodes do to a network, with the settings of the release as defaults.

    A network's reward goes to all draws of its episode. As in the release the baseline of a minibatch
    is the moving average with its own rewards, of which the latest weigh 0.95, and it begins with 0.
    The paper draws minibatches of 10 and rewards an accuracy with ``tan(accuracy * 1.5707963)``.

    Args:
        space: Search space.
        seed: Seed of the controller's weights and draws.
        units: Units of the controller's encoder in each direction.
        learning_rate: Learning rate of Adam.
        entropy_weight: Weight of the entropy bonus.
        baseline_weight: Decay of the moving average of rewards, in [0, 1].
        correction: Treatment of children that an earlier version drew: "naive", "ratio" or "decoupled".
        baseline: What the moving average begins with.
        advantage_scale: What differences of rewards and baseline are divided by.
    """

    baseline_has_minibatch: ClassVar[bool] = True

    @checked
    def __init__(
        self,
        space: EASSpace,
        seed: Seed = 0,
        units: PositiveInt = 50,
        learning_rate: PositiveFloat = 0.002,
        entropy_weight: NonNegativeFloat = 0.00001,
        baseline_weight: Share = 0.05,
        correction: Correction = "ratio",
        *,
        baseline: float = 0.0,
        advantage_scale: PositiveFloat = 10.0,
    ) -> None:
        super().__init__(
            EASController(space, units, seed=seed),
            keras.optimizers.Adam(learning_rate),
            entropy_weight,
            baseline_weight,
            correction,
        )
        self._baseline, self.advantage_scale = baseline, advantage_scale

    def _gain(
        self, now: tf.Tensor, before: tf.Tensor, weights: tf.Tensor, advantages: tf.Tensor
    ) -> tf.Tensor:
        return super()._gain(now, before, weights, advantages / self.advantage_scale)
