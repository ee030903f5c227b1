"""How the drop depends on the output error that is left: drop = c * error ** gamma, refitted after every trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

_GAMMA = (0.25, 4.0)
_WIDTH = 0.7
"""Standard deviation of log(measured drop / predicted drop) that is expected of a good fit."""

_NEAR = 0.1
"""The same between candidates that differ little."""

_LEAST_SHARE = 0.1
"""Drops below this share of the limit say only that they are far below it."""

_HOPE = 0.1
"""Chance of a candidate when the limit is zero, where nothing can be predicted."""


@dataclass(frozen=True)
class DropCurve:
    """A monotone prediction of drops.

    Attributes:
        c: predicted drop at error 1.
        gamma: exponent; 1 where nothing tells it yet.
    """

    c: float
    gamma: float

    def __call__(self, error: float) -> float:
        """The predicted drop with this much error left."""
        return self.c * error**self.gamma if error > 0.0 else 0.0

    def chance(self, error: float, max_drop: float, passing: tuple[float, float] | None) -> float:
        """Probability that the drop with this much error left is within the limit.

        Args:
            error: of the candidate.
            max_drop: the limit.
            passing: error and drop of the candidate that it differs from by a few ops; None when unknown. The nearer
                that is, the less the curve has to be trusted.
        """
        if max_drop <= 0.0:
            return _HOPE
        if passing is None or passing[0] <= 0.0 or self(passing[0]) <= 0.0:
            predicted, spread = self(error), _WIDTH
        else:
            known = max(passing[1], _LEAST_SHARE * max_drop)
            steps = math.log(max(error / passing[0], 1.0))
            predicted, spread = known * math.exp(self.gamma * steps), _NEAR + _WIDTH * self.gamma * min(steps, 1.0)
        if predicted <= 0.0:
            return 1.0
        return 0.5 * math.erfc(math.log(predicted / max_drop) / spread / math.sqrt(2.0))


def fit_curve(points: Sequence[tuple[float, float]], max_drop: float, prior: bool = True) -> DropCurve | None:
    """Fit (error, drop) points, robustly: the median of the slopes between pairs, then of the heights.

    Args:
        points: measured. A drop near or below zero says only that the drop is far below the limit, so it counts as a
            small share of it.
        max_drop: the limit.
        prior: whether a slope of 1 counts as one more pair of points, so that a single noisy pair does not bend
            the curve.

    Returns:
        None when no point has both an error and a drop.
    """
    least = max(_LEAST_SHARE * max_drop, 1e-12)
    usable = [(math.log(error), math.log(max(drop, least))) for error, drop in points if error > 0.0]
    if not usable or all(drop <= 0.0 for _, drop in points):
        return None
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(usable, 2) if abs(b[0] - a[0]) > 1e-3]
    gamma = min(max(median([*slopes, *([1.0] if prior or not slopes else [])]), _GAMMA[0]), _GAMMA[1])
    near = sorted(usable, key=lambda point: abs(point[1] - math.log(max(max_drop, least))))[:3]
    return DropCurve(math.exp(median([height - gamma * x for x, height in near])), gamma)
