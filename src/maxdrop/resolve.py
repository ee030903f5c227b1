"""The user's options to a `Policy`; what is not honoured is refused by name, nothing is silently ignored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Literal, get_args

from maxdrop.data.graph import Graph
from maxdrop.data.spec import (
    ActivationPolicy,
    AggregatorKind,
    BoundSpec,
    EstimatorSpec,
    Placement,
    Policy,
    SmoothQuantAlpha,
    SmoothQuantPolicy,
    StatisticKind,
    WeightPolicy,
)
from maxdrop.errors import ParameterNotSupportedError, ValidationError
from maxdrop.options import (
    AdvancedBiasCorrectionParameters,
    AdvancedQuantizationParameters,
    AdvancedSmoothQuantParameters,
    AggregatorType,
    ModelType,
    OverflowFix,
    QuantizationParameters,
    QuantizationPreset,
    QuantizationScheme,
    QuantizerPropagationRule,
    RangeEstimatorParameters,
    StatisticsCollectorParameters,
    StatisticsType,
    TargetDevice,
)
from maxdrop.scopes import IgnoredScope, match_scope

ReducedRange = Literal["all", "first", "none"]

_MEMORY = "statistics_memory_mb"
"""Key of `backend_params`: how many megabytes of sampled rows the statistics may hold."""


@dataclass(frozen=True)
class QuantizeOptions:
    """The parameters that `quantize` and `quantize_with_accuracy_control` have in common."""

    preset: QuantizationPreset | None = None
    target_device: TargetDevice = TargetDevice.ANY
    subset_size: int = 300
    fast_bias_correction: bool = True
    model_type: ModelType | None = None
    ignored_scope: IgnoredScope | None = None
    advanced: AdvancedQuantizationParameters | None = None
    placement: Placement = "measured"


def resolve_policy(graph: Graph, options: QuantizeOptions, default_range: ReducedRange) -> Policy:
    """Turn options into a policy for `graph`.

    Args:
        graph: the float model; says what the ignored scope matches.
        options: as the user gave them; not changed.
        default_range: which weights need 7 bits on the target when `overflow_fix` does not say.

    Raises:
        ValidationError: when a value breaks a rule.
        ParameterNotSupportedError: when a value is known but not honoured.
    """
    advanced = options.advanced or AdvancedQuantizationParameters()
    check_options(options, advanced)
    fix = advanced.overflow_fix
    ranges: dict[OverflowFix, ReducedRange] = {
        OverflowFix.ENABLE: "all",
        OverflowFix.FIRST_LAYER: "first",
        OverflowFix.DISABLE: "none",
    }
    bias = advanced.bias_correction_params
    return Policy(
        target=TargetDevice(options.target_device).value,
        placement=options.placement,
        reduced_range=default_range if fix is None else ranges[OverflowFix(fix)],
        activations=_activations(options.preset, advanced),
        weights=_weights(advanced),
        ignored=match_scope(graph, options.ignored_scope),
        bias_correction=not advanced.disable_bias_correction,
        bias_correction_threshold=bias.threshold,
        sequential_bias_correction=not options.fast_bias_correction and not advanced.disable_bias_correction,
        smooth_quant=_smooth_quant(advanced),
        quantize_outputs=advanced.quantize_outputs,
        batchwise_statistics=advanced.batchwise_statistics is not False,
        statistics_memory_mb=advanced.backend_params.get(_MEMORY, Policy().statistics_memory_mb),
    )


def refuse_mode(mode: object) -> None:
    """FP8 modes are known but not available."""
    if mode is not None:
        _refuse(f"mode={mode}", "leave it at None for int8")


def check_options(options: QuantizeOptions, advanced: AdvancedQuantizationParameters) -> None:
    """Refuse what is wrong or not honoured, before any work starts."""
    if options.subset_size < 1:
        message = f"`subset_size` must be >= 1, but got {options.subset_size}"
        raise ValidationError(message)
    _member(TargetDevice, options.target_device, "target_device")
    if options.preset is not None:
        _member(QuantizationPreset, options.preset, "preset")
    if options.model_type is not None:
        _member(ModelType, options.model_type, "model_type")
    if options.placement not in get_args(Placement):
        message = f"`placement` must be one of {get_args(Placement)}, but got {options.placement!r}"
        raise ValidationError(message)
    _check_advanced(advanced)


def _check_advanced(advanced: AdvancedQuantizationParameters) -> None:
    rule = advanced.quantizer_propagation_rule
    if rule != QuantizerPropagationRule.MERGE_ALL_IN_ONE:
        _refuse(f"quantizer_propagation_rule={rule}", "leave it at its default")
    if advanced.overflow_fix is not None:
        _member(OverflowFix, advanced.overflow_fix, "overflow_fix")
    alphas = advanced.smooth_quant_alphas
    _check_alpha(alphas.matmul, "smooth_quant_alphas.matmul")
    _check_alpha(alphas.convolution, "smooth_quant_alphas.convolution")
    _check_alpha(advanced.smooth_quant_alpha, "smooth_quant_alpha")
    _check_bias_correction(advanced.bias_correction_params)
    for key, value in advanced.backend_params.items():
        if key == _MEMORY:
            _check_memory(value)
        elif (key, value) != ("compress_weights", True):
            _refuse(f"backend_params[{key!r}]={value!r}", "remove it")


def _check_memory(megabytes: object) -> None:
    if isinstance(megabytes, bool) or not isinstance(megabytes, int) or megabytes < 1:
        message = f"`backend_params[{_MEMORY!r}]` must be an integer >= 1, but got {megabytes!r}"
        raise ValidationError(message)


def _check_alpha(alpha: float | None, name: str) -> None:
    if alpha is not None and not alpha <= 1.0:
        message = f"`{name}` must be at most 1, or None to switch it off, but got {alpha}"
        raise ValidationError(message)


def _smooth_quant(advanced: AdvancedQuantizationParameters) -> SmoothQuantPolicy:
    """The default strengths mean a choice by op; channel alignment is SmoothQuant of convolutions here.

    Whoever switches off matrix products and leaves convolutions at NNCF's -1 wants no SmoothQuant at all.
    """
    alphas, deprecated = advanced.smooth_quant_alphas, advanced.smooth_quant_alpha
    matmul = alphas.matmul if deprecated is None else deprecated
    by_op = deprecated is None and matmul == AdvancedSmoothQuantParameters().matmul
    off = matmul is None or matmul < 0
    convolution: SmoothQuantAlpha = alphas.convolution
    if isinstance(convolution, float | int) and convolution < 0:
        convolution = None if off and advanced.disable_channel_alignment else "auto"
    return SmoothQuantPolicy(matmul=None if off else "auto" if by_op else matmul, convolution=convolution)


def _check_bias_correction(params: AdvancedBiasCorrectionParameters) -> None:
    if params.threshold is not None and params.threshold < 0:
        message = f"`bias_correction_params.threshold` must be >= 0, but got {params.threshold}"
        raise ValidationError(message)


def _refuse(name: str, advice: str) -> None:
    message = f"{name} is not supported by this version; {advice}"
    raise ParameterNotSupportedError(message)


def _member(kind: Any, value: Any, name: str) -> None:
    try:
        kind(value)
    except ValueError as error:
        message = f"`{name}` must be one of {[str(m.value) for m in kind]}, but got {value!r}"
        raise ValidationError(message) from error


def _activations(preset: QuantizationPreset | None, advanced: AdvancedQuantizationParameters) -> ActivationPolicy:
    wishes = _integer_params(advanced.activations_quantization_params, "activations_quantization_params")
    symmetric = None if preset is None else QuantizationPreset(preset) is QuantizationPreset.PERFORMANCE
    if wishes.mode is not None:
        _member(QuantizationScheme, wishes.mode, "activations_quantization_params.mode")
        symmetric = QuantizationScheme(wishes.mode) is QuantizationScheme.SYMMETRIC
    return ActivationPolicy(
        symmetric=symmetric,
        signed=wishes.signedness_to_force,
        per_channel=wishes.per_channel,
        narrow_range=bool(wishes.narrow_range),
        estimator=_estimator(advanced.activations_range_estimator_params, "activations_range_estimator_params", "auto"),
    )


def _weights(advanced: AdvancedQuantizationParameters) -> WeightPolicy:
    wishes = _integer_params(advanced.weights_quantization_params, "weights_quantization_params")
    if wishes.mode is not None:
        _member(QuantizationScheme, wishes.mode, "weights_quantization_params.mode")
    if wishes.mode is not None and QuantizationScheme(wishes.mode) is QuantizationScheme.ASYMMETRIC:
        _refuse("weights_quantization_params.mode=asymmetric", "the int8 kernels take symmetric weights only")
    if wishes.signedness_to_force is False:
        _refuse("weights_quantization_params.signedness_to_force=False", "weights are stored as int8")
    estimator = _estimator(advanced.weights_range_estimator_params, "weights_range_estimator_params", "minmax")
    return WeightPolicy(
        per_channel=wishes.per_channel is not False,
        narrow_range=wishes.narrow_range is not False,
        estimator=estimator,
    )


def _integer_params(params: Any, name: str) -> QuantizationParameters:
    if params is None:
        return QuantizationParameters()
    if not isinstance(params, QuantizationParameters):
        _refuse(f"{name}={type(params).__name__}", "FP8 is not available; pass QuantizationParameters")
    if params.num_bits not in (None, 8):
        _refuse(f"{name}.num_bits={params.num_bits}", "only 8 bits are")
    found: QuantizationParameters = params
    return found


def _estimator(params: RangeEstimatorParameters, name: str, default: str) -> EstimatorSpec:
    """The user's fields over the defaults, field by field; untouched fields everywhere mean `default`."""
    if params == RangeEstimatorParameters():
        return EstimatorSpec(name=default)
    for label, end in (("min", params.min), ("max", params.max)):
        _check_end(end, f"{name}.{label}")
    kinds = {end.statistics_type for end in (params.min, params.max)}
    aggregators = {end.aggregator_type for end in (params.min, params.max)}
    if AggregatorType.HISTOGRAM in aggregators or StatisticsType.RAW in kinds:
        if aggregators != {AggregatorType.HISTOGRAM} or kinds != {StatisticsType.RAW}:
            _refuse(f"a partial HISTOGRAM in {name}", "use RangeEstimatorParametersSet.HISTOGRAM whole")
        return EstimatorSpec(name="mse")
    minmax = default == "minmax"
    lower = _bound(params.min, StatisticKind.MIN, AggregatorKind.MIN if minmax else AggregatorKind.MEAN)
    upper = _bound(params.max, StatisticKind.MAX, AggregatorKind.MAX if minmax else AggregatorKind.MEAN)
    if (lower, upper) == _MINMAX:
        return EstimatorSpec(name="minmax")
    return EstimatorSpec(name="bounds", lower=lower, upper=upper)


_MINMAX = (
    BoundSpec(statistic=StatisticKind.MIN, aggregator=AggregatorKind.MIN),
    BoundSpec(statistic=StatisticKind.MAX, aggregator=AggregatorKind.MAX),
)


def _check_end(end: StatisticsCollectorParameters, name: str) -> None:
    if end.statistics_type is not None:
        _member(StatisticsType, end.statistics_type, f"{name}.statistics_type")
    if end.aggregator_type is not None:
        _member(AggregatorType, end.aggregator_type, f"{name}.aggregator_type")
    if not 0.0 <= end.quantile_outlier_prob < 1.0:
        message = f"`{name}.quantile_outlier_prob` must be in [0, 1), but got {end.quantile_outlier_prob}"
        raise ValidationError(message)
    if end.clipping_value is not None and not end.clipping_value > 0.0:
        message = f"`{name}.clipping_value` must be > 0, but got {end.clipping_value}"
        raise ValidationError(message)


def _bound(end: StatisticsCollectorParameters, statistic: StatisticKind, aggregator: AggregatorKind) -> BoundSpec:
    return BoundSpec(
        statistic=StatisticKind(StatisticsType(end.statistics_type).value) if end.statistics_type else statistic,
        aggregator=AggregatorKind(AggregatorType(end.aggregator_type).value) if end.aggregator_type else aggregator,
        clipping_value=end.clipping_value,
        outlier_prob=end.quantile_outlier_prob,
    )


def as_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as plain JSON, for headers that decide whether a search can be continued."""
    return {key: _plain(value) for key, value in options.items()}


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return repr(value)
