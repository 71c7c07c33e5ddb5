"""Early stopping of children."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from nasnet_zoo.checking import PositiveInt, check_fields


@dataclass(frozen=True)
class QuantileStopping:
    """Early stopping below a quantile of earlier rewards.

    A child stops at an evaluation if its reward is below the quantile of the rewards that earlier
    children had at the same evaluation, children that stopped there included. With the median it is
    the median stopping rule (Golovin et al., Vizier, KDD 2017, section 3.2.2).

    A stopped child keeps the reward of its last evaluation. As that is the reward of less training,
    the policy underrates the child, so a search stops children only on request.

    Args:
        quantile: Quantile, in (0, 1).
        after: Number of earlier rewards that an evaluation needs before children stop at it.

    Raises:
        ValueError: If a number is out of range.
    """

    quantile: Annotated[float, Interval(gt=0, lt=1)] = 0.5
    after: PositiveInt = 20

    def __post_init__(self) -> None:
        check_fields(self)

    def thresholds(self, curves: Sequence[Sequence[float]]) -> tuple[float, ...]:
        """Least reward at each evaluation to go on, by the curves of earlier children.

        It is shorter where too few children got so far.
        """
        found = []
        for evaluation in range(max(map(len, curves), default=0)):
            rewards = [curve[evaluation] for curve in curves if len(curve) > evaluation]
            if len(rewards) < self.after:
                break
            found.append(float(np.quantile(rewards, self.quantile)))
        return tuple(found)
