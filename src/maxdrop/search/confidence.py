"""How sure a drop is, from the values of the single validation items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maxdrop.search.criterion import Criterion

_RESAMPLES = 10_000
_BYTES = 64 * 2**20


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
    if float_values is None or values is None or len(float_values) != len(values):
        return None
    before, after = np.asarray(float_values, np.float64), np.asarray(values, np.float64)
    if not (np.isclose(before.mean(), float_metric) and np.isclose(after.mean(), metric)):
        return None
    lost = before - after if criterion.higher_is_better else after - before
    means = _resampled_means(lost, seed)
    if criterion.drop_type == "relative":
        means = means / abs(float_metric)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled_means(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    chunk = max(1, min(_RESAMPLES, _BYTES // (8 * len(values))))
    means = [
        values[rng.integers(0, len(values), (min(chunk, _RESAMPLES - done), len(values)))].mean(axis=1)
        for done in range(0, _RESAMPLES, chunk)
    ]
    return np.concatenate(means)
