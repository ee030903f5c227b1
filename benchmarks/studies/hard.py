"""Setups that make int8 worse than it has to be, so that a search has work to do on small, well-behaved networks.

All but `default` are symmetric, quantize whatever can run in int8, have one scale for each activation, and leave out
bias correction and the SmoothQuant of matrix products.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from maxdrop.options import QuantizationPreset
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


def nncf_arguments(setup: str) -> dict[str, Any]:
    """The same wishes as arguments of NNCF's `quantize_with_accuracy_control`, which quantizes all it can anyway."""
    import nncf

    advanced = _find(setup, nncf.__name__)
    if advanced is None:
        return {}
    return {"preset": nncf.QuantizationPreset.PERFORMANCE, "advanced_quantization_parameters": advanced}


def _find(setup: str, package: str = "maxdrop") -> Any:
    """Advanced parameters of a package that has NNCF's names, or None."""
    if setup not in _SETUPS:
        raise KeyError(f"the setup must be one of {names()}, but got {setup!r}")
    make = _SETUPS[setup]
    return make and make(
        import_module(f"{package}.quantization.advanced_parameters"),
        import_module(f"{package}.quantization.range_estimator"),
    )


def _plain(of: Any, **changes: Any) -> Any:
    return of.AdvancedQuantizationParameters(
        disable_bias_correction=True,
        smooth_quant_alphas=of.AdvancedSmoothQuantParameters(matmul=-1),
        activations_quantization_params=of.QuantizationParameters(per_channel=False),
        **changes,
    )


def _minmax(of: Any, ranges: Any) -> Any:
    """Rounding noise and nothing else: no value of the calibration data is clipped."""
    return _plain(of, activations_range_estimator_params=ranges.RangeEstimatorParametersSet.MINMAX)


def _clipped(of: Any, ranges: Any) -> Any:
    """Ranges that cut off a thousandth of the values at both ends: errors that do not average out."""
    end = ranges.StatisticsCollectorParameters(
        ranges.StatisticsType.QUANTILE, ranges.AggregatorType.MEAN, quantile_outlier_prob=_CLIPPED_SHARE
    )
    return _plain(of, activations_range_estimator_params=ranges.RangeEstimatorParameters(end, end))


def _coarse(of: Any, ranges: Any) -> Any:
    """One scale for a whole weight, and 7 of 8 bits."""
    return _plain(
        of,
        activations_range_estimator_params=ranges.RangeEstimatorParametersSet.MINMAX,
        weights_quantization_params=of.QuantizationParameters(per_channel=False),
        overflow_fix=of.OverflowFix.ENABLE,
    )


_SETUPS: dict[str, Callable[[Any, Any], Any] | None] = {
    "default": None,
    "minmax": _minmax,
    "clipped": _clipped,
    "coarse": _coarse,
}
