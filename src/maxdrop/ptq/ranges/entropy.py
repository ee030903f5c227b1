"""The range whose quantized distribution differs least from the original one.

Migacz, "8-bit inference with TensorRT" (GTC 2017): least Kullback-Leibler divergence. It looks at how often values
occur and not at what their error does to the output, so it clips rare large values readily.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.spec import QuantizerSpec
from maxdrop.data.statistics import TensorStatistics
from maxdrop.ptq.ranges.histogram import Histogram, histogram

F64 = NDArray[np.float64]

_SHRINK = np.linspace(1.0, 0.2, 41)


def entropy_range(statistics: TensorStatistics, spec: QuantizerSpec) -> tuple[float, float]:
    """The common factor on both ends of the min-max range with the least divergence."""
    found = histogram(statistics)
    low, high = min(float(statistics.sample_min.min()), 0.0), max(float(statistics.sample_max.max()), 0.0)
    if spec.symmetric and spec.dtype == "int8":
        low, high = -max(-low, high), max(-low, high)
    levels = spec.quant_max - spec.quant_min + 1
    divergences = [_divergence(found, low * f, high * f, levels) for f in _SHRINK]
    best = float(_SHRINK[int(np.argmin(divergences))])
    lowest, highest = float(statistics.sample_min.min()), float(statistics.sample_max.max())
    return max(low * best, min(lowest, 0.0)), min(high * best, max(highest, 0.0))


def _divergence(found: Histogram, low: float, high: float, levels: int) -> float:
    """KL(p || q): p has what is outside in its end bins, q spreads each level evenly over the bins it covers."""
    inside = (found.centers >= low) & (found.centers <= high)
    if high <= low or not inside.any():
        return float("inf") if high > low else 0.0
    counts = found.counts[inside]
    level = np.minimum(((found.centers[inside] - low) / (high - low) * levels).astype(np.int64), levels - 1)
    q = (np.bincount(level, counts, levels) / np.maximum(np.bincount(level, minlength=levels), 1))[level]
    p = counts.copy()
    p[0] += found.counts[found.centers < low].sum()
    p[-1] += found.counts[found.centers > high].sum()
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())
