"""The range with the least mean squared quantization error over the sampled elements."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.spec import QuantizerSpec
from maxdrop.data.statistics import TensorStatistics
from maxdrop.ptq.numerics import fake_quantize, params_from_range

F64 = NDArray[np.float64]

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
    return float(low), float(high)


def _histogram(statistics: TensorStatistics) -> tuple[F64, F64]:
    # In float64: 2048 bins fit between any two float32 numbers, and squares of none overflow.
    parts = [statistics.rows.ravel(), statistics.sample_min, statistics.sample_max]
    elements = np.concatenate(parts).astype(np.float64)
    if elements.min() == elements.max():
        return elements[:1], np.array([float(len(elements))])
    counts, edges = np.histogram(elements, bins=_BINS)
    centers = 0.5 * (edges[1:] + edges[:-1])
    return centers[counts > 0], counts[counts > 0].astype(np.float64)


def _error(centers: F64, counts: F64, low: float, high: float, spec: QuantizerSpec) -> float:
    params = params_from_range(low, high, spec)
    return float((counts * np.square(centers - fake_quantize(centers, params, spec))).sum())
