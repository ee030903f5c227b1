"""How much faster, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 2000


@dataclass(frozen=True)
class Comparison:
    """Latency of the float model against that of the result.

    Attributes:
        float_seconds: median of the float model.
        seconds: median of the result.
        speedup: median over the pairs of blocks of float time over result time.
        interval: 95 % bootstrap interval of `speedup`.
    """

    float_seconds: float
    seconds: float
    speedup: float
    interval: tuple[float, float]

    @property
    def is_slower(self) -> bool:
        """Whether the result is slower beyond doubt: the whole interval is below 0.98."""
        return self.interval[1] < 0.98


def compare(float_blocks: NDArray[np.float64], result_blocks: NDArray[np.float64], seed: int = 0) -> Comparison:
    """Compare block latencies that were measured in turns, each (blocks,)."""
    ratios = float_blocks / result_blocks
    picks = np.random.default_rng(seed).integers(0, len(ratios), (_RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(ratios[picks], axis=1), [0.025, 0.975])
    return Comparison(
        float(np.median(float_blocks)),
        float(np.median(result_blocks)),
        float(np.median(ratios)),
        (float(low), float(high)),
    )
