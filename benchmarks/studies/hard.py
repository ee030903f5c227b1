"""Setups that make int8 worse than it has to be, so that a search has work to do on small, well-behaved networks.

All but `default` are symmetric, quantize whatever can run in int8, have one scale for each activation, and leave out
bias correction and the SmoothQuant of matrix products.
"""

from collections.abc import Callable
from typing import Any

from maxdrop.options import (
    AdvancedQuantizationParameters,
    AdvancedSmoothQuantParameters,
    AggregatorType,
    OverflowFix,
    QuantizationParameters,
    QuantizationPreset,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
)
from maxdrop.resolve import QuantizeOptions

_CLIPPED_SHARE = 1e-3


def names() -> list[str]:
    """The setups."""
    return list(_SETUPS)


def control_arguments(setup: str) -> dict[str, Any]:
    """Arguments of `control_accuracy` that make up a setup."""
    advanced = _find(setup)
    if advanced is None:
        return {}
    return {
        "preset": QuantizationPreset.PERFORMANCE,
        "placement": "all",
        "advanced_quantization_parameters": advanced,
        "allow_slower": True,
    }


def quantize_options(setup: str, placement: str | None = None) -> QuantizeOptions:
    """The same as options of quantization; `placement` overrides that of the setup."""
    advanced = _find(setup)
    if advanced is None:
        return QuantizeOptions(placement=placement or "table")  # type: ignore[arg-type]
    return QuantizeOptions(
        preset=QuantizationPreset.PERFORMANCE,
        advanced=advanced,
        placement=placement or "all",  # type: ignore[arg-type]
    )


def _find(setup: str) -> AdvancedQuantizationParameters | None:
    if setup not in _SETUPS:
        raise KeyError(f"the setup must be one of {names()}, but got {setup!r}")
    return _SETUPS[setup]()


def _plain(**changes: Any) -> AdvancedQuantizationParameters:
    return AdvancedQuantizationParameters(
        disable_bias_correction=True,
        smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=-1),
        activations_quantization_params=QuantizationParameters(per_channel=False),
        **changes,
    )


def _minmax() -> AdvancedQuantizationParameters:
    """Rounding noise and nothing else: no value of the calibration data is clipped."""
    return _plain(activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX)


def _clipped() -> AdvancedQuantizationParameters:
    """Ranges that cut off a thousandth of the values at both ends: errors that do not average out."""
    end = StatisticsCollectorParameters(
        StatisticsType.QUANTILE, AggregatorType.MEAN, quantile_outlier_prob=_CLIPPED_SHARE
    )
    return _plain(activations_range_estimator_params=RangeEstimatorParameters(end, end))


def _coarse() -> AdvancedQuantizationParameters:
    """One scale for a whole weight, and 7 of 8 bits."""
    return _plain(
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        weights_quantization_params=QuantizationParameters(per_channel=False),
        overflow_fix=OverflowFix.ENABLE,
    )


_SETUPS: dict[str, Callable[[], AdvancedQuantizationParameters | None]] = {
    "default": lambda: None,
    "minmax": _minmax,
    "clipped": _clipped,
    "coarse": _coarse,
}
