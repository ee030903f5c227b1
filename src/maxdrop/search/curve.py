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

    def chance(self, error: float, max_drop: float) -> float:
        """Probability that the drop with this much error left is within the limit."""
        predicted = self(error)
        if predicted <= 0.0:
            return 1.0
        if max_drop <= 0.0:
            return 0.0
        return 0.5 * math.erfc(math.log(predicted / max_drop) / _WIDTH / math.sqrt(2.0))


def fit_curve(points: Sequence[tuple[float, float]], max_drop: float) -> DropCurve | None:
    """Fit (error, drop) points, robustly: the median of the slopes between pairs, then of the heights.

    Args:
        points: measured. A drop near or below zero says only that the drop is far below the limit, so it counts as a
            small share of it.
        max_drop: the limit.

    Returns:
        None when no point has both an error and a drop.
    """
    least = max(0.1 * max_drop, 1e-12)
    usable = [(math.log(error), math.log(max(drop, least))) for error, drop in points if error > 0.0]
    if not usable or all(drop <= 0.0 for _, drop in points):
        return None
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(usable, 2) if abs(b[0] - a[0]) > 1e-3]
    # One prior slope of 1 keeps a single noisy pair from bending the curve.
    gamma = min(max(median([*slopes, 1.0]), _GAMMA[0]), _GAMMA[1]) if slopes else 1.0
    near = sorted(usable, key=lambda point: abs(point[1] - math.log(max(max_drop, least))))[:3]
    return DropCurve(math.exp(median([height - gamma * x for x, height in near])), gamma)
