"""Every option has an effect or is refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import Any

import pytest

import maxdrop as nncf
from maxdrop import options
from maxdrop.data.graph import Graph
from maxdrop.data.plan import Candidate, QuantizationPlan
from maxdrop.data.spec import EstimatorSpec, Policy
from maxdrop.data.statistics import Statistics
from maxdrop.errors import MaxdropError, ParameterNotSupportedError, ValidationError
from maxdrop.ptq.build import Planner
from maxdrop.ptq.calibration import calibration_requests
from maxdrop.ptq.payoff import choose_int8
from maxdrop.quantization.advanced_parameters import (
    AdvancedQuantizationParameters,
    FP8QuantizationParameters,
    FP8Type,
    QuantizationParameters,
    QuantizerPropagationRule,
)
from maxdrop.quantization.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
)
from maxdrop.resolve import QuantizeOptions, refuse_mode, resolve_policy
from maxdrop.testing.toy_backend import ToyBackend
from tests.toys import toy_model, toy_samples


def _collector(**chosen: Any) -> RangeEstimatorParameters:
    return RangeEstimatorParameters(max=StatisticsCollectorParameters(**chosen))


def _activations(**chosen: Any) -> dict[str, Any]:
    return {"activations_quantization_params": QuantizationParameters(**chosen)}


def _weights(**chosen: Any) -> dict[str, Any]:
    return {"weights_quantization_params": QuantizationParameters(**chosen)}


HISTOGRAM = RangeEstimatorParametersSet.HISTOGRAM
E4M3 = FP8QuantizationParameters(FP8Type.E4M3)


def _bias(**chosen: Any) -> dict[str, Any]:
    return {"bias_correction_params": options.AdvancedBiasCorrectionParameters(**chosen)}


def _smooth(**chosen: Any) -> dict[str, Any]:
    return {"smooth_quant_alphas": options.AdvancedSmoothQuantParameters(**chosen)}


EFFECTS: list[tuple[dict[str, Any], Callable[[Any], Any], Any]] = [
    ({"overflow_fix": options.OverflowFix.ENABLE}, lambda p: p.reduced_range, "all"),
    ({"overflow_fix": options.OverflowFix.FIRST_LAYER}, lambda p: p.reduced_range, "first"),
    ({"overflow_fix": options.OverflowFix.DISABLE}, lambda p: p.reduced_range, "none"),
    ({"disable_bias_correction": True}, lambda p: p.bias_correction, False),
    (_bias(threshold=2.0), lambda p: p.bias_correction_threshold, 2.0),
    (_smooth(matmul=-1), lambda p: p.smooth_quant.matmul, None),
    (_smooth(matmul=0.5), lambda p: p.smooth_quant.matmul, 0.5),
    (_smooth(convolution=0.5), lambda p: p.smooth_quant.convolution, 0.5),
    (_smooth(matmul=None), lambda p: p.smooth_quant.matmul, None),
    (_smooth(convolution=None), lambda p: p.smooth_quant.convolution, None),
    (_smooth(convolution=None), lambda p: p.smooth_quant.matmul, "auto"),
    (_smooth(matmul=-1), lambda p: p.smooth_quant.convolution, None),
    (_smooth(matmul=-1, convolution=0.5), lambda p: p.smooth_quant.convolution, 0.5),
    ({**_smooth(matmul=-1), "disable_channel_alignment": False}, lambda p: p.smooth_quant.convolution, "auto"),
    ({"smooth_quant_alpha": -1.0}, lambda p: p.smooth_quant.convolution, None),
    ({"smooth_quant_alpha": -1.0}, lambda p: p.smooth_quant.matmul, None),
    ({"smooth_quant_alpha": 0.0}, lambda p: p.smooth_quant.matmul, 0.0),
    ({"smooth_quant_alpha": 0.95}, lambda p: p.smooth_quant.matmul, 0.95),
    (_activations(mode="symmetric"), lambda p: p.activations.symmetric, True),
    (_activations(mode="asymmetric"), lambda p: p.activations.symmetric, False),
    (_activations(signedness_to_force=True), lambda p: p.activations.signed, True),
    (_activations(signedness_to_force=False), lambda p: p.activations.signed, False),
    (_activations(per_channel=True), lambda p: p.activations.per_channel, True),
    (_activations(narrow_range=True), lambda p: p.activations.narrow_range, True),
    (_weights(per_channel=False), lambda p: p.weights.per_channel, False),
    (_weights(narrow_range=False), lambda p: p.weights.narrow_range, False),
    ({"quantize_outputs": True}, lambda p: p.quantize_outputs, True),
    ({"batchwise_statistics": False}, lambda p: p.batchwise_statistics, False),
    ({"backend_params": {"statistics_memory_mb": 64}}, lambda p: p.statistics_memory_mb, 64),
    ({"weights_range_estimator_params": HISTOGRAM}, lambda p: p.weights.estimator.name, "mse"),
    (
        {"weights_range_estimator_params": _collector(clipping_value=1.0)},
        lambda p: p.weights.estimator.upper.clipping_value,
        1.0,
    ),
    ({"activations_range_estimator_params": HISTOGRAM}, lambda p: p.activations.estimator.name, "mse"),
    (
        {"activations_range_estimator_params": RangeEstimatorParametersSet.MINMAX},
        lambda p: p.activations.estimator,
        EstimatorSpec(name="minmax"),
    ),
    (
        {"activations_range_estimator_params": _collector(statistics_type="abs_max")},
        lambda p: [p.activations.estimator.name, p.activations.estimator.upper.statistic.value],
        ["bounds", "abs_max"],
    ),
    (
        {"activations_range_estimator_params": _collector(aggregator_type=AggregatorType.MEDIAN)},
        lambda p: [p.activations.estimator.upper.aggregator.value, p.activations.estimator.lower.aggregator.value],
        ["median", "mean"],
    ),
    (
        {"activations_range_estimator_params": _collector(clipping_value=3.0)},
        lambda p: p.activations.estimator.upper.clipping_value,
        3.0,
    ),
    (
        {"activations_range_estimator_params": _collector(statistics_type="quantile", quantile_outlier_prob=0.1)},
        lambda p: p.activations.estimator.upper.outlier_prob,
        0.1,
    ),
]
"""Advanced options, where they show in the policy, and as what."""

UNCHANGED: list[dict[str, Any]] = [
    {"disable_channel_alignment": False},  # convolutions are smoothed where it pays in any case
    {"inplace_statistics": True},
    {"inplace_statistics": False},
    {"batchwise_statistics": True},
    {"backend_params": {"compress_weights": True}},
    {"backend_params": {"statistics_memory_mb": 512}},
    {"bias_correction_params": options.AdvancedBiasCorrectionParameters(apply_for_all_nodes=True)},
    {"weights_range_estimator_params": RangeEstimatorParametersSet.MINMAX},
    _weights(num_bits=8, mode="symmetric", signedness_to_force=True, per_channel=True, narrow_range=True),
    _activations(num_bits=8),
]
"""Advanced options that ask for what is done anyway."""

REFUSED: list[tuple[dict[str, Any], str]] = [
    *(
        ({"quantizer_propagation_rule": rule}, "quantizer_propagation_rule")
        for rule in QuantizerPropagationRule
        if rule is not QuantizerPropagationRule.MERGE_ALL_IN_ONE
    ),
    ({"backend_params": {"compress_weights": False}}, "compress_weights"),
    ({"backend_params": {"stat_requests_number": 2}}, "stat_requests_number"),
    ({"activations_quantization_params": E4M3}, "activations_quantization_params"),
    ({"weights_quantization_params": E4M3}, "weights_quantization_params"),
    (_activations(num_bits=4), r"activations_quantization_params\.num_bits"),
    (_weights(num_bits=4), r"weights_quantization_params\.num_bits"),
    (_weights(mode="asymmetric"), r"weights_quantization_params\.mode"),
    (_weights(signedness_to_force=False), r"weights_quantization_params\.signedness_to_force"),
    ({"activations_range_estimator_params": _collector(statistics_type="raw")}, "HISTOGRAM"),
    ({"activations_range_estimator_params": _collector(aggregator_type="histogram")}, "HISTOGRAM"),
    ({"weights_range_estimator_params": _collector(statistics_type="raw")}, "HISTOGRAM in weights_range"),
]

INVALID: list[tuple[dict[str, Any], str]] = [
    ({"overflow_fix": "sometimes"}, "overflow_fix"),
    ({"backend_params": {"statistics_memory_mb": 0}}, "statistics_memory_mb"),
    ({"backend_params": {"statistics_memory_mb": "much"}}, "statistics_memory_mb"),
    ({"bias_correction_params": options.AdvancedBiasCorrectionParameters(threshold=-1.0)}, "threshold"),
    (_smooth(matmul=1.5), r"smooth_quant_alphas\.matmul"),
    (_smooth(convolution=float("nan")), r"smooth_quant_alphas\.convolution"),
    ({"smooth_quant_alpha": 2.0}, "smooth_quant_alpha"),
    (_activations(mode="both"), "mode"),
    (_weights(mode="both"), "mode"),
    ({"activations_range_estimator_params": _collector(statistics_type="middle")}, r"max\.statistics_type"),
    ({"activations_range_estimator_params": _collector(aggregator_type="all")}, r"max\.aggregator_type"),
    ({"activations_range_estimator_params": _collector(clipping_value=-1.0)}, r"max\.clipping_value"),
    ({"activations_range_estimator_params": _collector(quantile_outlier_prob=1.5)}, r"max\.quantile_outlier_prob"),
]


@cache
def _graph() -> Graph:
    return ToyBackend().graph(toy_model())


def _resolve(**chosen: Any) -> Policy:
    return resolve_policy(_graph(), QuantizeOptions(**chosen), "none")


def _advanced(chosen: dict[str, Any]) -> Policy:
    return _resolve(advanced=AdvancedQuantizationParameters(**chosen))


@cache
def _statistics() -> Statistics:
    requests = calibration_requests(_graph(), choose_int8(_graph(), _resolve())[0])
    return ToyBackend().observe(toy_model(), requests, toy_samples(), lambda done: None)


def _plan(policy: Policy) -> QuantizationPlan:
    return Planner(_graph(), policy, _statistics())(Candidate())


@pytest.mark.parametrize(("chosen", "where", "expected"), EFFECTS)
def test_advanced_options_show_in_the_policy(
    chosen: dict[str, Any], where: Callable[[Policy], Any], expected: Any
) -> None:
    policy = _advanced(chosen)
    assert where(policy) == expected
    if "overflow_fix" not in chosen or expected != "none":  # which is what this backend asks for anyway
        assert policy != _resolve()


@pytest.mark.parametrize("chosen", UNCHANGED)
def test_options_that_ask_for_what_is_done_anyway(chosen: dict[str, Any]) -> None:
    assert _advanced(chosen) == _resolve()


@pytest.mark.parametrize(("chosen", "name"), REFUSED)
def test_options_that_are_not_honoured_are_refused(chosen: dict[str, Any], name: str) -> None:
    with pytest.raises(ParameterNotSupportedError, match=name):
        _advanced(chosen)


@pytest.mark.parametrize(("chosen", "name"), INVALID)
def test_options_that_are_wrong_are_refused(chosen: dict[str, Any], name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        _advanced(chosen)


def test_no_advanced_field_is_forgotten() -> None:
    """Each field of NNCF's dataclass is met above."""
    met = {key for table in (EFFECTS, REFUSED, INVALID) for row in table for key in row[0]}
    met |= {key for chosen in UNCHANGED for key in chosen}
    assert met == {field.name for field in fields(AdvancedQuantizationParameters)}


@pytest.mark.parametrize(
    ("chosen", "error", "name"),
    [
        ({"subset_size": 0}, ValidationError, "subset_size"),
        ({"subset_size": -3}, ValidationError, "subset_size"),
        ({"preset": "fast"}, ValidationError, "preset"),
        ({"target_device": "TPU"}, ValidationError, "target_device"),
        ({"model_type": "cnn"}, ValidationError, "model_type"),
        ({"placement": "everywhere"}, ValidationError, "placement"),
    ],
)
def test_basic_options_that_are_refused(chosen: dict[str, Any], error: type[MaxdropError], name: str) -> None:
    with pytest.raises(error, match=name):
        _resolve(**chosen)


def test_modes_are_refused() -> None:
    refuse_mode(None)
    for mode in options.QuantizationMode:
        with pytest.raises(ParameterNotSupportedError, match="mode"):
            refuse_mode(mode)


def test_basic_options_show_in_the_policy() -> None:
    for device in options.TargetDevice:
        assert _resolve(target_device=device).target == device.value
    assert _resolve(model_type=options.ModelType.TRANSFORMER) == _resolve()
    assert not _resolve().sequential_bias_correction
    assert _resolve(fast_bias_correction=False).sequential_bias_correction
    nothing = AdvancedQuantizationParameters(disable_bias_correction=True)
    assert not _resolve(fast_bias_correction=False, advanced=nothing).sequential_bias_correction
    assert _resolve(preset=options.QuantizationPreset.PERFORMANCE).activations.symmetric is True
    assert _resolve(preset=options.QuantizationPreset.MIXED).activations.symmetric is False
    assert _resolve(ignored_scope=nncf.IgnoredScope(names=["a"])).ignored == {"a": "name 'a'"}
    assert resolve_policy(_graph(), QuantizeOptions(), "first").reduced_range == "first"


def test_the_scheme_overrides_the_preset() -> None:
    policy = _resolve(
        preset=options.QuantizationPreset.MIXED,
        advanced=AdvancedQuantizationParameters(**_activations(mode=options.QuantizationScheme.SYMMETRIC)),
    )
    assert policy.activations.symmetric is True


def test_options_show_in_the_plan() -> None:
    """Forms and edits of the finished plan, not only the policy that it states."""

    def forms(policy: Policy, constant: bool) -> list[dict[str, Any]]:
        return [q.spec.model_dump() for q in _plan(policy).quantizers if q.constant is constant]

    signed = _activations(signedness_to_force=True)
    performance = {"preset": options.QuantizationPreset.PERFORMANCE}
    assert all(form["symmetric"] for form in forms(_resolve(**performance), constant=False))
    mixed = forms(_resolve(preset=options.QuantizationPreset.MIXED), constant=False)
    assert not all(form["symmetric"] for form in mixed)
    assert {form["dtype"] for form in forms(_resolve(**performance), constant=False)} == {"int8", "uint8"}
    advanced = AdvancedQuantizationParameters(**signed)
    assert {form["dtype"] for form in forms(_resolve(**performance, advanced=advanced), constant=False)} == {"int8"}
    assert all(form["axes"] for form in forms(_resolve(), constant=True))
    assert not any(form["axes"] for form in forms(_advanced(_weights(per_channel=False)), constant=True))
    assert not any(form["narrow_range"] for form in forms(_advanced(_weights(narrow_range=False)), constant=True))
    reduced = _advanced({"overflow_fix": options.OverflowFix.ENABLE})
    assert all(form["reduced_range"] for form in forms(reduced, constant=True))
    first = _plan(_advanced({"overflow_fix": options.OverflowFix.FIRST_LAYER}))
    assert {q.uses[0].node for q in first.quantizers if q.constant and q.spec.reduced_range} == {"a", "b"}
    assert _plan(_resolve()).edits
    assert not _plan(_advanced({"disable_bias_correction": True})).edits
    estimated = {
        name: [q.params for q in _plan(_advanced({"activations_range_estimator_params": params})).quantizers]
        for name, params in vars(RangeEstimatorParametersSet).items()
        if isinstance(params, RangeEstimatorParameters)
    }
    assert len({str(params) for params in estimated.values()}) == len(estimated) == 6
    ignored = _plan(_resolve(ignored_scope=nncf.IgnoredScope(names=["a"])))
    assert "a" not in ignored.int8_ops
    assert "name 'a'" in ignored.float_ops["a"]


def test_ops_without_a_bias_are_corrected_too() -> None:
    """So `apply_for_all_nodes=True` is what is done anyway."""
    assert {"b", "c", "d", "e"} & {edit.op for edit in _plan(_resolve()).edits}


def test_options_are_not_changed() -> None:
    advanced = AdvancedQuantizationParameters(
        **_activations(mode="symmetric"), activations_range_estimator_params=_collector(statistics_type="max")
    )
    scope = nncf.IgnoredScope(patterns=["a.*"])
    before = copy.deepcopy((advanced, scope))
    first = _resolve(advanced=advanced, ignored_scope=scope)
    assert (advanced, scope) == before
    assert _resolve(advanced=advanced, ignored_scope=scope) == first
