"""Names that scripts import from `nncf.quantization.advanced_parameters`; see `maxdrop.options`."""

from __future__ import annotations

from maxdrop.options import (
    AdvancedAccuracyRestorerParameters,
    AdvancedBiasCorrectionParameters,
    AdvancedQuantizationParameters,
    AdvancedSmoothQuantParameters,
    AggregatorType,
    FP8QuantizationParameters,
    FP8Type,
    OverflowFix,
    QuantizationParameters,
    QuantizationScheme,
    QuantizerPropagationRule,
    RangeEstimatorParameters,
    RestoreMode,
    StatisticsType,
)

QuantizationMode = QuantizationScheme
"""NNCF calls the scheme so in this module; the FP8 modes are `maxdrop.QuantizationMode`."""

__all__ = [
    "AdvancedAccuracyRestorerParameters",
    "AdvancedBiasCorrectionParameters",
    "AdvancedQuantizationParameters",
    "AdvancedSmoothQuantParameters",
    "AggregatorType",
    "FP8QuantizationParameters",
    "FP8Type",
    "OverflowFix",
    "QuantizationMode",
    "QuantizationParameters",
    "QuantizationScheme",
    "QuantizerPropagationRule",
    "RangeEstimatorParameters",
    "RestoreMode",
    "StatisticsType",
]
