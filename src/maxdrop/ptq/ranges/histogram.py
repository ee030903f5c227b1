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
    # In float64: bins fit between any two float32 numbers, and squares of none overflow.
    parts = [statistics.rows.ravel(), statistics.sample_min, statistics.sample_max]
    elements = np.concatenate(parts).astype(np.float64)
    each = np.ones(statistics.rows.shape[1])
    if importance is not None and np.sum(importance) > 0.0:
        each = np.asarray(importance, np.float64) / np.mean(importance)
    lowest, highest = each[np.argmin(statistics.channel_min)], each[np.argmax(statistics.channel_max)]
    ends = [np.full(statistics.count, EXTREME * end) for end in (lowest, highest)]
    weights = np.concatenate([np.tile(each, len(statistics.rows)), *ends])
    low, high = elements.min(), elements.max()
    if low == high:
        return Histogram(elements[:1], np.array([weights.sum()]))
    # np.histogram also moves elements that rounding put beyond an edge, and takes up to twice as long for it.
    width = (high - low) / BINS
    bins = np.minimum(((elements - low) / width).astype(np.intp), BINS - 1)
    counts = np.bincount(bins, weights, BINS).astype(np.float64)
    centers = low + (np.arange(BINS) + 0.5) * width
    return Histogram(centers[counts > 0.0], counts[counts > 0.0])


def squared_errors(found: Histogram, low: F64, high: F64, spec: QuantizerSpec) -> F64:
    """Summed squared quantization error for each of n ranges, float64 (n,)."""
    by_range = spec.model_copy(update={"axes": (0,)})
    params = params_from_range(low, high, by_range)
    centers = np.broadcast_to(found.centers, (len(low), len(found.centers)))
    return np.asarray(np.square(centers - fake_quantize(centers, params, by_range)) @ found.counts)
