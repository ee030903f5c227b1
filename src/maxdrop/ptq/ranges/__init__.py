"""Range estimators, one to a file: statistics of a tensor to the two ends of its range."""

from __future__ import annotations

from functools import partial
from typing import Any

from numpy.typing import NDArray

from maxdrop.data.protocols import RangeEstimator
from maxdrop.data.spec import EstimatorSpec
from maxdrop.errors import ValidationError
from maxdrop.ptq.ranges.aciq import aciq_range
from maxdrop.ptq.ranges.bounds import bounds_range
from maxdrop.ptq.ranges.entropy import entropy_range
from maxdrop.ptq.ranges.minmax import mean_minmax_range, minmax_range
from maxdrop.ptq.ranges.mse import mse_range
from maxdrop.ptq.ranges.output_mse import output_mse_range
from maxdrop.ptq.ranges.quantile import quantile_range

ESTIMATORS: dict[str, RangeEstimator] = {
    "aciq": aciq_range,
    "auto": output_mse_range,
    "entropy": entropy_range,
    "mean_minmax": mean_minmax_range,
    "minmax": minmax_range,
    "mse": mse_range,
    "output_mse": output_mse_range,
    "quantile": quantile_range,
}


def get_estimator(spec: EstimatorSpec, importance: NDArray[Any] | None = None) -> RangeEstimator:
    """The estimator that `spec` names.

    Args:
        spec: name, and both ends for "bounds".
        importance: (C,): how much the error of each channel counts, for the estimators that ask.

    Raises:
        ValidationError: when there is no estimator of that name.
    """
    if spec.name == "bounds":
        return partial(bounds_range, lower=spec.lower, upper=spec.upper)
    if spec.name not in ESTIMATORS:
        message = f"the range estimator must be one of {sorted([*ESTIMATORS, 'bounds'])}, but got {spec.name!r}"
        raise ValidationError(message)
    if spec.name in {"auto", "output_mse"}:
        return partial(output_mse_range, importance=importance)
    return ESTIMATORS[spec.name]
