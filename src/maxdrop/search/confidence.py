"""How sure a drop is, from the values of the single validation items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maxdrop.errors import ValidationError
from maxdrop.search.criterion import Criterion

_RESAMPLES = 10_000
_BYTES = 64 * 2**20
_FEW_VALUES = 64


def drop_interval(
    float_values: Sequence[float] | None,
    values: Sequence[float] | None,
    float_metric: float,
    metric: float,
    criterion: Criterion,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Paired bootstrap interval of the drop (Efron and Tibshirani, 1993, percentile method).

    Args:
        float_values: one number for each validation item, of the float model.
        values: the same of the quantized model, in the same order.
        float_metric: the float model's metric.
        metric: the quantized model's metric.
        criterion: says in which direction and in which terms a drop is counted.
        level: probability that the interval covers the drop on the population the items came from.
        seed: of the resampling.

    Returns:
        Lower and upper end; None when per-item values are missing, or their mean is not the metric, because then
        nothing is known about how the items make up the metric.
    """
    lost = _losses(float_values, values, float_metric, metric, criterion)
    if lost is None:
        return None
    means = _resampled_means(lost, seed) / _unit(criterion, float_metric)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def upper_drop(
    float_values: Sequence[float] | None,
    values: Sequence[float] | None,
    float_metric: float,
    metric: float,
    criterion: Criterion,
    *,
    level: float,
    seed: int = 0,
) -> float | None:
    """Upper end of the one-sided paired bootstrap interval of the drop, never below the measured drop.

    One item with the largest loss that the values allow is added to those measured. Without it the interval of a
    candidate that happened to lose nothing would have no width, however few the items are, and rare losses would be
    promised away.

    Args:
        float_values: see `drop_interval`.
        values: see `drop_interval`.
        float_metric: see `drop_interval`.
        metric: see `drop_interval`.
        criterion: see `drop_interval`.
        level: probability that the drop on the population the items came from is below the upper end.
        seed: of the resampling.

    Returns:
        The upper end; None where `drop_interval` is None.
    """
    lost = _losses(float_values, values, float_metric, metric, criterion)
    if lost is None:
        return None
    both = [*(float_values or ()), *(values or ())]
    means = _resampled_means(np.append(lost, max(both) - min(both)), seed)
    highest = max(float(np.quantile(means, level)), float(lost.mean()))
    return highest / _unit(criterion, float_metric)


def too_few_items(interval: tuple[float, float] | None, limit: float) -> float:
    """How many times wider half the interval is than the limit; above 1 the items cannot decide about the limit."""
    if interval is None or interval[0] == interval[1]:
        return 0.0
    return (interval[1] - interval[0]) / (2 * max(limit, 1e-12))


def check_confidence(confidence: object) -> None:
    """Refuse what is no probability."""
    if confidence is None:
        return
    if not isinstance(confidence, (int, float)) or not 0.5 <= confidence < 1.0:
        message = f"`confidence` must be None or in [0.5, 1), but got {confidence!r}"
        raise ValidationError(message)


def _losses(
    float_values: Sequence[float] | None,
    values: Sequence[float] | None,
    float_metric: float,
    metric: float,
    criterion: Criterion,
) -> NDArray[np.float64] | None:
    """Loss of every item; None when they do not make up the metric."""
    if not float_values or values is None or len(float_values) != len(values):
        return None
    before, after = np.asarray(float_values, np.float64), np.asarray(values, np.float64)
    if not (np.isclose(before.mean(), float_metric) and np.isclose(after.mean(), metric)):
        return None
    return before - after if criterion.higher_is_better else after - before


def _unit(criterion: Criterion, float_metric: float) -> float:
    return abs(float_metric) if criterion.drop_type == "relative" else 1.0


def _resampled_means(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= _FEW_VALUES:  # the same distribution, without touching every item
        return np.asarray(rng.multinomial(len(values), counts / len(values), _RESAMPLES) @ distinct / len(values))
    chunk = max(1, min(_RESAMPLES, _BYTES // (8 * len(values))))
    means = [
        values[rng.integers(0, len(values), (min(chunk, _RESAMPLES - done), len(values)))].mean(axis=1)
        for done in range(0, _RESAMPLES, chunk)
    ]
    return np.concatenate(means)
