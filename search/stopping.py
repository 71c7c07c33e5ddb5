"""Stopping hopeless children early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from nasnet_zoo.checking import PositiveInt, check_fields

from .journal import Record


@dataclass(frozen=True)
class MedianStopping:
    """The median stopping rule (Golovin et al., Vizier, KDD 2017, section 3.2.2), at any quantile.

    A child stops after a part of its training if its reward then is below the quantile of the rewards
    that earlier children had after the same part. Children that were stopped there count too: the
    rule compares with all that came so far, not with the survivors alone.

    A stopped child keeps the reward it has. It is that of less training, so the policy takes the child
    for worse than it is: a search stops none unless it is told to.

    Args:
        quantile: above 0 and below 1; 0.5 is the median.
        after: children that must have had a reward after a part before the rule looks at it.

    Raises:
        ValueError: if a number is out of range.
    """

    quantile: Annotated[float, Interval(gt=0, lt=1)] = 0.5
    after: PositiveInt = 20

    def __post_init__(self) -> None:
        check_fields(self)

    def thresholds(self, earlier: Sequence[Record]) -> tuple[float, ...]:
        """The reward after each part below which a child stops; shorter where too few got so far."""
        curves = [
            record.result["rewards"]
            for record in earlier
            if record.state == "finished" and record.same_as is None and record.result
        ]
        found = []
        for part in range(max(map(len, curves), default=0)):
            rewards = [curve[part] for curve in curves if len(curve) > part]
            if len(rewards) < self.after:
                break
            found.append(float(np.quantile(rewards, self.quantile)))
        return tuple(found)
