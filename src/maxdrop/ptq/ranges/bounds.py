"""Ranges described end by end, as NNCF's `RangeEstimatorParameters` does: a statistic and an aggregator each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.spec import AggregatorKind, BoundSpec, QuantizerSpec, StatisticKind
from maxdrop.data.statistics import TensorStatistics
from maxdrop.errors import InternalError

_A = AggregatorKind
_S = StatisticKind


def bounds_range(
    statistics: TensorStatistics, spec: QuantizerSpec, *, lower: BoundSpec | None, upper: BoundSpec | None
) -> tuple[float, float]:
    """One number per sample for each end, aggregated over the samples, and clipped where asked for."""
    if lower is None or upper is None:
        message = "the estimator 'bounds' needs both ends"
        raise InternalError(message)
    return _bound(statistics, lower, is_upper=False), _bound(statistics, upper, is_upper=True)


def _bound(statistics: TensorStatistics, bound: BoundSpec, *, is_upper: bool) -> float:
    numbers = _per_sample(statistics, bound, is_upper)
    result = _aggregate(numbers, bound.aggregator)
    if bound.clipping_value is not None:
        result = float(np.clip(result, -bound.clipping_value, bound.clipping_value))
    return result


def _per_sample(statistics: TensorStatistics, bound: BoundSpec, is_upper: bool) -> NDArray[np.float64]:
    low = statistics.sample_min.astype(np.float64)
    high = statistics.sample_max.astype(np.float64)
    reach = np.maximum(np.abs(low), np.abs(high))
    exact = {_S.MIN: low, _S.MAX: high, _S.ABS_MAX: reach if is_upper else -reach}
    if bound.statistic in exact:
        return exact[bound.statistic]
    return np.array([_from_elements(x, bound, is_upper) for x in _samples(statistics)])


def _samples(statistics: TensorStatistics) -> list[NDArray[np.float32]]:
    cuts = np.flatnonzero(np.diff(statistics.row_sample)) + 1
    return [part.ravel() for part in np.split(statistics.rows, cuts)]


def _from_elements(x: NDArray[np.float32], bound: BoundSpec, is_upper: bool) -> float:
    if bound.statistic is _S.MEAN:
        return float(x.mean())
    prob = 1.0 - bound.outlier_prob if is_upper else bound.outlier_prob
    if bound.statistic is _S.QUANTILE:
        return float(np.quantile(x, prob))
    reach = float(np.quantile(np.abs(x), 1.0 - bound.outlier_prob))
    return reach if is_upper else -reach


def _aggregate(numbers: NDArray[np.float64], aggregator: AggregatorKind) -> float:
    if aggregator in {_A.MEAN_NO_OUTLIERS, _A.MEDIAN_NO_OUTLIERS}:
        first, third = np.quantile(numbers, [0.25, 0.75])
        reach = 1.5 * (third - first)
        numbers = numbers[(numbers >= first - reach) & (numbers <= third + reach)]
    reducers: dict[AggregatorKind, Callable[[NDArray[np.float64]], Any]] = {
        _A.MIN: np.min,
        _A.MAX: np.max,
        _A.MEAN: np.mean,
        _A.MEAN_NO_OUTLIERS: np.mean,
        _A.MEDIAN: np.median,
        _A.MEDIAN_NO_OUTLIERS: np.median,
    }
    return float(reducers[aggregator](numbers))
