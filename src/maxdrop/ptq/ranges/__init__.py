"""Range estimators, one to a file: statistics of a tensor to the two ends of its range."""

from __future__ import annotations

from functools import partial

from maxdrop.data.protocols import RangeEstimator
from maxdrop.data.spec import EstimatorSpec
from maxdrop.errors import ValidationError
from maxdrop.ptq.ranges.bounds import bounds_range
from maxdrop.ptq.ranges.minmax import mean_minmax_range, minmax_range
from maxdrop.ptq.ranges.mse import mse_range

ESTIMATORS: dict[str, RangeEstimator] = {
    "auto": mean_minmax_range,
    "minmax": minmax_range,
    "mean_minmax": mean_minmax_range,
    "mse": mse_range,
}


def get_estimator(spec: EstimatorSpec) -> RangeEstimator:
    """The estimator that `spec` names.

    Raises:
        ValidationError: when there is no estimator of that name.
    """
    if spec.name == "bounds":
        return partial(bounds_range, lower=spec.lower, upper=spec.upper)
    if spec.name not in ESTIMATORS:
        message = f"the range estimator must be one of {sorted([*ESTIMATORS, 'bounds'])}, but got {spec.name!r}"
        raise ValidationError(message)
    return ESTIMATORS[spec.name]
