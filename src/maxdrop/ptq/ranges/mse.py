"""The range with the least mean squared quantization error over the sampled elements."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.spec import QuantizerSpec
from maxdrop.data.statistics import TensorStatistics
from maxdrop.ptq.ranges.histogram import Histogram, histogram, squared_errors

F64 = NDArray[np.float64]

_SHRINK = np.linspace(1.0, 0.2, 41)


def mse_range(statistics: TensorStatistics, spec: QuantizerSpec) -> tuple[float, float]:
    """Shrink the min-max range by the common factor, then each end alone, that minimises the squared error.

    The error is summed over a histogram of the sampled rows, to which the extremes of each sample are added, so
    that clipping a rare large value has its price even where no row caught it.
    """
    return least_error_range(statistics, spec, histogram(statistics))


def least_error_range(statistics: TensorStatistics, spec: QuantizerSpec, found: Histogram) -> tuple[float, float]:
    """The range, shrunk from the min-max one, with the least squared error over `found`."""
    low, high = float(statistics.sample_min.min()), float(statistics.sample_max.max())

    def best(lows: F64, highs: F64) -> tuple[float, float]:
        chosen = int(np.argmin(squared_errors(found, lows, highs, spec)))
        return float(lows[chosen]), float(highs[chosen])

    low, high = best(low * _SHRINK, high * _SHRINK)
    if not spec.symmetric:
        low, high = best(low * _SHRINK, np.full_like(_SHRINK, high))
        low, high = best(np.full_like(_SHRINK, low), high * _SHRINK)
    return low, high
