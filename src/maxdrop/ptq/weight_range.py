"""Ranges of weights: what the user's estimator says of one tensor that is known whole."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.spec import BoundSpec, EstimatorSpec, QuantizerSpec, StatisticKind
from maxdrop.errors import InternalError
from maxdrop.ptq.numerics import fake_quantize, params_from_range, reduced_axes

F64 = NDArray[np.float64]

SHRINK = np.linspace(0.5, 1.0, 26)
"""Shares of the largest magnitude that the least squared error is looked for among."""


def weight_range(weight: NDArray[Any], spec: QuantizerSpec, estimator: EstimatorSpec) -> tuple[F64, F64]:
    """Both ends for each kept index, float64 in C order.

    A weight is a single sample, so aggregators of samples make no difference; statistics and clipping values do.

    Args:
        weight: float, in its native layout.
        spec: form of its quantizer.
        estimator: "minmax", "bounds", or "mse" for the least squared error.
    """
    if estimator.name == "minmax":
        rest = reduced_axes(weight.ndim, spec.axes)
        return weight.min(axis=rest).astype(np.float64).ravel(), weight.max(axis=rest).astype(np.float64).ravel()
    table = _table(weight, spec)
    if estimator.name == "mse":
        return _least_error(table, spec)
    if estimator.lower is None or estimator.upper is None:
        message = f"the range estimator {estimator.name!r} is none for weights"
        raise InternalError(message)
    return _bound(table, estimator.lower, is_upper=False), _bound(table, estimator.upper, is_upper=True)


def _table(weight: NDArray[Any], spec: QuantizerSpec) -> F64:
    """One row for each kept index."""
    rest = reduced_axes(weight.ndim, spec.axes)
    kept = [axis for axis in range(weight.ndim) if axis not in rest]
    count = int(np.prod([weight.shape[axis] for axis in kept]))
    return np.asarray(weight.transpose([*kept, *rest]).reshape(count, -1), np.float64)


def _bound(table: F64, bound: BoundSpec, *, is_upper: bool) -> F64:
    found = _statistic(table, bound, is_upper)
    limit = bound.clipping_value
    return found if limit is None else np.clip(found, -limit, limit)


def _statistic(table: F64, bound: BoundSpec, is_upper: bool) -> F64:
    if bound.statistic in {StatisticKind.ABS_MAX, StatisticKind.ABS_QUANTILE}:
        outliers = bound.outlier_prob if bound.statistic is StatisticKind.ABS_QUANTILE else 0.0
        reach = np.quantile(np.abs(table), 1.0 - outliers, axis=1)
        return np.asarray(reach if is_upper else -reach)
    if bound.statistic is StatisticKind.QUANTILE:
        return np.asarray(np.quantile(table, 1.0 - bound.outlier_prob if is_upper else bound.outlier_prob, axis=1))
    if bound.statistic is StatisticKind.MEAN:
        return np.asarray(table.mean(axis=1))
    return np.asarray(table.min(axis=1) if bound.statistic is StatisticKind.MIN else table.max(axis=1))


def _least_error(table: F64, spec: QuantizerSpec) -> tuple[F64, F64]:
    """Of symmetric ranges, by row."""
    by_row = spec.model_copy(update={"axes": (0,), "smooth_axis": None})
    reach = np.abs(table).max(axis=1)
    errors = []
    for share in SHRINK:
        params = params_from_range(-share * reach, share * reach, by_row)
        errors.append(np.square(fake_quantize(table, params, by_row) - table).sum(axis=1))
    best = SHRINK[::-1][np.argmin(errors[::-1], axis=0)] * reach  # of equal errors the one that clips nothing
    return -best, best
