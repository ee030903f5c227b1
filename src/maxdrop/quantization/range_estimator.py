"""Names that scripts import from `nncf.quantization.range_estimator`; see `maxdrop.options`."""

from __future__ import annotations

from maxdrop.options import (
    AggregatorType,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
)

__all__ = [
    "AggregatorType",
    "RangeEstimatorParameters",
    "RangeEstimatorParametersSet",
    "StatisticsCollectorParameters",
    "StatisticsType",
]
