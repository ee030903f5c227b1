"""A histogram of the sampled elements, and what quantizing to a given range costs on it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.spec import QuantizerSpec
from maxdrop.data.statistics import TensorStatistics
from maxdrop.ptq.numerics import fake_quantize, params_from_range

F64 = NDArray[np.float64]

BINS = 2048
BLOCK = 2**16
"""Elements that are counted at a time, so that they stay in the cache."""

EXTREME = 0.01
"""What the extreme of a sample counts, where an element of a row counts 1: rows are about that share of a sample."""


class Histogram(NamedTuple):
    """Centers of the bins that hold something, and how much; both float64 (n,)."""

    centers: F64
    counts: F64


def histogram(statistics: TensorStatistics, importance: NDArray[Any] | None = None) -> Histogram:
    """Of the sampled rows and of the extremes of each sample, which no row may have caught.

    Args:
        statistics: of a tensor with C channels.
        importance: (C,), what an element of each channel counts; None for 1. An extreme counts as the channel
            that reaches furthest.
    """
    each = np.ones(statistics.rows.shape[1])
    if importance is not None and np.sum(importance) > 0.0:
        each = np.asarray(importance, np.float64) / np.mean(importance)
    lowest, highest = each[np.argmin(statistics.channel_min)], each[np.argmax(statistics.channel_max)]
    ends = np.array([statistics.sample_min, statistics.sample_max])
    low = min(float(statistics.rows.min()), float(ends.min()))
    high = max(float(statistics.rows.max()), float(ends.max()))
    if low == high:
        total = each.sum() * len(statistics.rows) + EXTREME * statistics.count * (lowest + highest)
        return Histogram(np.array([low]), np.array([total]))
    counts = _counted(ends, np.repeat(EXTREME * np.array([lowest, highest]), statistics.count), low, high)
    step = max(1, BLOCK // len(each))
    weights = np.tile(each, step)
    for start in range(0, len(statistics.rows), step):
        block = statistics.rows[start : start + step]
        counts += _counted(block, weights[: block.size], low, high)
    centers = np.asarray(low + (np.arange(BINS) + 0.5) * ((high - low) / BINS), np.float64)
    return Histogram(centers[counts > 0.0], counts[counts > 0.0])


def _counted(elements: NDArray[Any], weights: F64, low: float, high: float) -> F64:
    """What falls into each bin, float64 (BINS,)."""
    # numpy turns float32 into int16 many times faster than into the type of an index. In float64, bins fit between any
    # two float32 numbers.
    exact = np.float32 if 1e-30 < high - low < 1e30 else np.float64
    above: NDArray[np.floating[Any]] = np.subtract(elements, low, dtype=exact)
    np.multiply(above, BINS / (high - low), out=above)
    bins = np.minimum(above, BINS - 1, out=above).astype(np.int16)
    return np.asarray(np.bincount(bins.ravel(), weights, BINS), np.float64)


def squared_errors(found: Histogram, low: F64, high: F64, spec: QuantizerSpec) -> F64:
    """Summed squared quantization error for each of n ranges, float64 (n,)."""
    by_range = spec.model_copy(update={"axes": (0,)})
    params = params_from_range(low, high, by_range)
    centers = np.broadcast_to(found.centers, (len(low), len(found.centers)))
    return np.asarray(np.square(centers - fake_quantize(centers, params, by_range)) @ found.counts)
