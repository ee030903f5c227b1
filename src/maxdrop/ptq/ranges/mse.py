"""The range with the least mean squared quantization error over the sampled elements."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.spec import QuantizerSpec
from maxdrop.data.statistics import TensorStatistics
from maxdrop.ptq.numerics import fake_quantize, params_from_range

_BINS = 2048
_SHRINK = np.linspace(1.0, 0.2, 41)


def mse_range(statistics: TensorStatistics, spec: QuantizerSpec) -> tuple[float, float]:
    """Shrink the min-max range by the common factor, then each end alone, that minimises the squared error.

    The error is summed over a histogram of the sampled rows, to which the extremes of each sample are added, so
    that clipping a rare large value has its price even where no row caught it.
    """
    centers, counts = _histogram(statistics)
    low, high = float(statistics.sample_min.min()), float(statistics.sample_max.max())
    best = min(_SHRINK, key=lambda f: _error(centers, counts, low * f, high * f, spec))
    low, high = low * best, high * best
    if not spec.symmetric:
        factor = min(_SHRINK, key=lambda f: _error(centers, counts, low * f, high, spec))
        low *= factor
        factor = min(_SHRINK, key=lambda f: _error(centers, counts, low, high * f, spec))
        high *= factor
    return low, high


def _histogram(statistics: TensorStatistics) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    elements = np.concatenate([statistics.rows.ravel(), statistics.sample_min, statistics.sample_max])
    counts, edges = np.histogram(elements, bins=_BINS)
    centers = (0.5 * (edges[1:] + edges[:-1])).astype(np.float32)
    return centers[counts > 0], counts[counts > 0].astype(np.float64)


def _error(
    centers: NDArray[np.float32], counts: NDArray[np.float64], low: float, high: float, spec: QuantizerSpec
) -> float:
    params = params_from_range(low, high, spec)
    return float((counts * np.square(centers - fake_quantize(centers, params, spec))).sum())
