from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset13 as opset

from maxdrop.backends.openvino.backend import OpenVINOBackend
from maxdrop.backends.openvino.edits import divided_by_factors, multiplied_by_factors
from maxdrop.data.plan import Candidate, QuantizationPlan, Quantizer, UseRef
from maxdrop.data.spec import ActivationPolicy, EstimatorSpec, Policy, Precision, QuantizerSpec, QuantParams
from maxdrop.data.spec import SmoothQuantPolicy as Smooth
from maxdrop.data.statistics import Statistics, TensorStatistics
from maxdrop.ptq.build import Planner
from maxdrop.ptq.calibration import calibration_requests
from maxdrop.ptq.numerics import dequantize, fake_quantize, nmse, params_from_range, quantize, sqnr
from maxdrop.ptq.output_error import OutputError, Reader
from maxdrop.ptq.payoff import choose_int8
from maxdrop.ptq.smooth_quant import (
    ALPHAS,
    CONVOLUTION,
    LEAST_ROWS,
    MATMUL,
    UNFOLDED,
    choose_factors,
    demand_of,
    factors_for,
    smoothed_statistics,
    with_factors,
)
from maxdrop.testing.estimator_suite import statistics_of

F32 = NDArray[np.float32]

RNG = np.random.default_rng(5)
C, HIDDEN = 24, 32
OUTLIERS = np.where(np.arange(C) % 8 == 3, 40.0, 1.0).astype(np.float32)
ASYMMETRIC = QuantizerSpec(dtype="uint8", symmetric=False)
FACTORS = np.exp(RNG.normal(0.0, 1.0, C)).astype(np.float32)


def _samples(count: int = 48, seed: int = 0) -> list[F32]:
    rng = np.random.default_rng(seed)
    return [(rng.normal(0.1, 1.0, (1, 10, C)) * OUTLIERS).astype(np.float32) for _ in range(count)]


WEIGHTS = {name: RNG.normal(0.0, 1.0, (HIDDEN, C)).astype(np.float32) for name in ("left", "right")}


def _model() -> ov.Model:
    """Two products and a residual read one value; a convolution stands behind them."""
    x = opset.parameter([1, 10, C], np.float32, name="x")
    shifted = opset.add(x, opset.constant(np.full((1, 1, C), 0.1, np.float32)), name="shifted")
    left = opset.matmul(shifted, opset.constant(WEIGHTS["left"]), False, True, name="left")
    right = opset.matmul(shifted, opset.constant(WEIGHTS["right"]), False, True, name="right")
    image = opset.reshape(shifted, opset.constant(np.array([1, 10, 4, 6])), False, name="image")
    kernel = np.random.default_rng(2).normal(0.0, 1.0, (8, 10, 1, 1)).astype(np.float32)
    conv = opset.convolution(image, opset.constant(kernel), [1, 1], [0, 0], [0, 0], [1, 1], name="conv")
    return ov.Model([opset.result(v) for v in (left, right, conv)], [x], "smooth")


@pytest.fixture(scope="module")
def model() -> ov.Model:
    return _model()


@pytest.fixture(scope="module")
def statistics(model: ov.Model) -> Statistics:
    backend = OpenVINOBackend()
    graph = backend.graph(model)
    requests = calibration_requests(graph, choose_int8(graph, Policy(placement="all"))[0])
    return backend.observe(model, requests, _samples(), lambda done: None)


def _planner(model: ov.Model, statistics: Statistics, **chosen: Any) -> Planner:
    ignored = {"conv": "of no interest here"}
    policy = Policy(placement="all", **{"ignored": ignored, **chosen})
    return Planner(OpenVINOBackend().graph(model), policy, statistics)


def _simulated(model: ov.Model, planner: Planner, plan: QuantizationPlan) -> ov.CompiledModel:
    applied = OpenVINOBackend().apply(model, plan, planner.arrays)
    config = {"LP_TRANSFORMS_MODE": "NO", "INFERENCE_PRECISION_HINT": "f32"}
    return ov.Core().compile_model(applied, "CPU", config)


def _by_use(plan: QuantizationPlan) -> dict[tuple[str, int], Quantizer]:
    return {(use.node, use.index): q for q in plan.quantizers for use in q.serves}


@pytest.mark.parametrize("spec", [ASYMMETRIC, QuantizerSpec(dtype="int8"), QuantizerSpec(dtype="int8", axes=(0,))])
def test_factors_belong_to_the_real_numbers(spec: QuantizerSpec) -> None:
    x = (RNG.normal(0.0, 1.0, (7, C)) * FACTORS).astype(np.float32)
    low, high = (-np.arange(1, 8), np.arange(2, 9)) if spec.axes else (-3.0, 4.0)
    plain = params_from_range(low, high, spec)
    smooth, params = spec.model_copy(update={"smooth_axis": -1}), with_factors(plain, FACTORS)
    codes = quantize(x, params, smooth)
    expected = quantize(x / FACTORS, plain, spec)
    assert np.mean(codes != expected) < 0.01  # a division more may round the other way
    np.testing.assert_allclose(dequantize(codes, params, smooth), dequantize(codes, plain, spec) * FACTORS, rtol=1e-6)


def test_statistics_after_smoothing_are_those_of_the_smoothed_samples() -> None:
    samples = [sample[0] for sample in _samples()]
    found = smoothed_statistics(statistics_of(samples), FACTORS)
    expected = statistics_of([sample / FACTORS for sample in samples])
    for name in ("channel_min", "channel_max", "channel_mean", "rows", "row_sample"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-6)
    assert found.sample_min.min() == pytest.approx(expected.sample_min.min())
    assert found.sample_max.max() == pytest.approx(expected.sample_max.max())


def test_statistics_whose_sign_changes_at_the_end_stay_ordered() -> None:
    """The largest element of a tensor without positive ones is in another channel after smoothing."""
    found = smoothed_statistics(statistics_of([np.zeros((3, C), np.float32), -np.ones((3, C), np.float32)]), FACTORS)
    assert found.sample_max.max() == 0.0
    assert found.sample_min.min() == pytest.approx(-1.0 / FACTORS.min())


def _reader(weight: F32) -> Reader:
    return Reader(weight.T[:, :, None], np.abs(weight).max(axis=0), True, True, False)


def _unclipped(statistics: TensorStatistics, factors: F32 | None) -> QuantParams:
    scale = np.float32(1.0) if factors is None else factors
    return params_from_range((statistics.channel_min / scale).min(), (statistics.channel_max / scale).max(), ASYMMETRIC)


def _chosen(samples: list[F32], readers: list[Reader]) -> F32 | None:
    found = statistics_of(samples)
    return choose_factors(found, readers, ASYMMETRIC, partial(_unclipped, found))


READERS = [_reader(weight) for weight in WEIGHTS.values()]


def test_outlier_channels_are_smoothed_and_even_ones_are_not() -> None:
    factors = _chosen([sample[0] for sample in _samples()], READERS)
    assert factors is not None
    assert factors[OUTLIERS > 1].min() > 3 * factors[OUTLIERS == 1].max()
    assert _chosen([RNG.uniform(-1.0, 1.0, (30, C)).astype(np.float32) for _ in range(10)], READERS) is None


def test_too_few_rows_to_check_are_too_few_to_smooth() -> None:
    samples = [sample[0] for sample in _samples()]
    most = 2 * (LEAST_ROWS // len(samples[0]))
    assert _chosen(samples[:most], READERS) is None
    assert _chosen(samples[: most + 2], READERS) is not None


def _rarely_large(count: int, seed: int) -> list[F32]:
    """Each channel is near zero but for rare moments, and all of them reach equally far in the end."""
    rng = np.random.default_rng(seed)
    rare = rng.random((count, 10, C)) < 0.01
    return list((rng.normal(0.0, 1.0, (count, 10, C)) * np.where(rare, 30.0, 0.1)).astype(np.float32))


def test_extremes_that_do_not_hold_for_other_samples_are_not_evened_out() -> None:
    """Within the samples the channels differ in reach, for some had their moment and others not yet."""
    samples, later = _rarely_large(12, 1), np.concatenate(_rarely_large(400, 2))
    known = statistics_of(samples)
    error = OutputError(later, READERS, ASYMMETRIC)
    tempting = [factors_for(known, READERS, alpha) for alpha in ALPHAS]
    seen = OutputError(known.rows, READERS, ASYMMETRIC)
    assert min(seen(_unclipped(known, f), f) for f in tempting) < MATMUL.gain * seen(_unclipped(known, None))
    assert min(error(_unclipped(known, f), f) for f in tempting[5:]) > 1.5 * error(_unclipped(known, None))
    assert _chosen(samples, READERS) is None


def test_the_predicted_error_is_that_of_the_outputs() -> None:
    rows = np.concatenate([sample[0] for sample in _samples()])
    params, factors = params_from_range(-4.0, 4.0, ASYMMETRIC), OUTLIERS
    spec = QuantizerSpec(dtype="int8", axes=(0,), narrow_range=True)
    scaled = WEIGHTS["left"] * factors
    weight = fake_quantize(scaled, params_from_range(scaled.min(axis=1), scaled.max(axis=1), spec), spec)
    difference = fake_quantize(rows / factors, params, ASYMMETRIC) @ weight.T - rows @ WEIGHTS["left"].T
    expected = np.square(difference - difference.mean(axis=0)).sum() / np.square(rows @ WEIGHTS["left"].T).sum()
    found = OutputError(rows, [_reader(WEIGHTS["left"])], ASYMMETRIC)(params, factors)
    assert found == pytest.approx(expected, rel=1e-3)


def test_dead_channels_get_no_factor() -> None:
    samples = [sample[0].copy() for sample in _samples()]
    weight = WEIGHTS["left"].copy()
    for sample in samples:
        sample[:, 2] = 0.0
    weight[:, 5] = 0.0
    factors = factors_for(statistics_of(samples), [_reader(weight)], 0.5)
    assert factors[2] == factors[5] == 1.0
    assert np.isfinite(factors).all() and (factors > 0).all()
    nothing = statistics_of([np.zeros((4, C), np.float32)])
    assert (factors_for(nothing, [_reader(weight)], 0.5) == 1.0).all()


def test_dividing_the_value_and_multiplying_the_weight_changes_nothing() -> None:
    params = QuantParams(scale=(1.0,), zero_point=(0,), factors=tuple(float(f) for f in FACTORS))
    spec = QuantizerSpec(dtype="int8", smooth_axis=-1)
    quantizer = Quantizer(
        id="x", value="x", uses=(), serves=(), constant=False, spec=spec, params=params, group="x"
    )  # fmt: skip
    x = opset.parameter([1, 10, C], np.float32)
    divided = divided_by_factors(x.output(0), quantizer, "q")
    product = opset.matmul(divided, opset.constant(WEIGHTS["left"] * FACTORS), False, True)
    restored = multiplied_by_factors(divided, quantizer, "q")
    compiled = ov.Core().compile_model(
        ov.Model([opset.result(product), opset.result(restored)], [x]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    sample = _samples(1)[0]
    found = compiled([sample])
    assert nmse(sample @ WEIGHTS["left"].T, found[0]) < 1e-8
    np.testing.assert_allclose(found[1], sample, rtol=1e-5)


def test_the_model_computes_what_the_plan_says(model: ov.Model, statistics: Statistics) -> None:
    planner = _planner(model, statistics, bias_correction=False)
    plan = planner(Candidate())
    compiled, sample = _simulated(model, planner, plan), _samples(1, seed=9)[0]
    quantizers = _by_use(plan)
    for number, op in enumerate(("left", "right")):
        activation, weight = quantizers[op, 0], quantizers[op, 1]
        assert activation.spec.smooth_axis == -1
        assert weight.spec.smooth_axis == 1
        np.testing.assert_allclose(np.multiply(activation.params.factors, weight.params.factors), 1.0, rtol=1e-6)
        x = fake_quantize(sample + np.float32(0.1), activation.params, activation.spec)
        w = fake_quantize(WEIGHTS[op], weight.params, weight.spec)
        assert nmse(x @ w.T, compiled([sample])[number]) < 1e-4


def test_it_pays_where_channels_differ(model: ov.Model, statistics: Statistics) -> None:
    samples = _samples(8, seed=9)
    found = {}
    for name, alpha in (("smooth", "auto"), ("plain", None)):
        planner = _planner(model, statistics, smooth_quant=Smooth(matmul=alpha))
        compiled = _simulated(model, planner, planner(Candidate()))
        float_left = np.concatenate([(x + np.float32(0.1)) @ WEIGHTS["left"].T for x in samples])
        found[name] = sqnr(float_left, np.concatenate([compiled([x])[0] for x in samples]))
    assert found["smooth"] > found["plain"]


def test_a_reader_that_stays_float_keeps_value_and_weight(model: ov.Model, statistics: Statistics) -> None:
    planner = _planner(model, statistics)
    whole = planner(Candidate())
    part = planner(Candidate(precisions={"right": Precision.FLOAT}))
    assert _by_use(part)["left", 0].params == _by_use(whole)["left", 0].params
    assert _by_use(part)["left", 1] == _by_use(whole)["left", 1]
    assert _by_use(part)["left", 0].uses == (UseRef(node="left", index=0),)
    sample = _samples(1, seed=9)[0]
    found = _simulated(model, planner, part)([sample])
    assert nmse((sample + np.float32(0.1)) @ WEIGHTS["right"].T, found[1]) < 1e-8
    np.testing.assert_allclose(found[0], _simulated(model, planner, whole)([sample])[0], rtol=1e-4, atol=1e-3)


def test_half_a_plan_still_approximates_the_float_model(model: ov.Model, statistics: Statistics) -> None:
    """Factors without their counterpart are given back where they were taken."""
    planner = _planner(model, statistics)
    plan, sample = planner(Candidate()), _samples(1, seed=9)[0]
    for constant in (False, True):
        half = plan.model_copy(update={"quantizers": tuple(q for q in plan.quantizers if q.constant is constant)})
        found = _simulated(model, planner, half.model_copy(update={"edits": ()}))([sample])
        assert nmse((sample + np.float32(0.1)) @ WEIGHTS["left"].T, found[0]) < 1e-3


def test_int8_weights_alone_are_rounded_with_the_factors_and_given_them_back(
    model: ov.Model, statistics: Statistics
) -> None:
    planner = _planner(model, statistics)
    whole = next(q for q in planner(Candidate()).quantizers if q.constant and q.uses[0].node == "left")
    plan = planner(Candidate(precisions={"left": Precision.INT8_WEIGHTS, "right": Precision.FLOAT}))
    (weight,) = plan.quantizers
    assert weight.params == whole.params
    sample = _samples(1, seed=9)[0]
    found = _simulated(model, planner, plan)([sample])
    assert nmse((sample + np.float32(0.1)) @ WEIGHTS["left"].T, found[0]) < 1e-3


def test_equal_candidates_give_equal_plans_and_survive_json(model: ov.Model, statistics: Statistics) -> None:
    first, second = (_planner(model, statistics)(Candidate()) for _ in range(2))
    assert first == second
    assert first.key() == QuantizationPlan.model_validate_json(first.model_dump_json()).key()


def test_a_value_that_a_convolution_reads_too_is_left_alone(model: ov.Model, statistics: Statistics) -> None:
    """Behind the layout op its channels are others."""
    plan = _planner(model, statistics, ignored={})(Candidate())
    assert "conv" in plan.int8_ops
    assert all(q.spec.smooth_axis is None for q in plan.quantizers)


def test_the_switchable_model_shows_the_same_error(model: ov.Model, statistics: Statistics) -> None:
    plan = _planner(model, statistics)(Candidate())
    switchable = OpenVINOBackend().switchable(model, plan)
    sample = _samples(1, seed=9)[0]
    activation = _by_use(plan)["left", 0]
    x = fake_quantize(sample + np.float32(0.1), activation.params, activation.spec)
    assert nmse(x @ WEIGHTS["left"].T, switchable.run(sample, ["left"])[0]) < 1e-6
    np.testing.assert_allclose(switchable.run(sample, [])[0], (sample + 0.1) @ WEIGHTS["left"].T, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("estimator", ["minmax", "mean_minmax", "mse"])
def test_the_range_estimator_sees_the_smoothed_value(model: ov.Model, statistics: Statistics, estimator: str) -> None:
    activations = ActivationPolicy(estimator=EstimatorSpec(name=estimator))
    plan = _planner(model, statistics, activations=activations, smooth_quant=Smooth(matmul=0.5))(Candidate())
    activation = _by_use(plan)["left", 0]
    wide = statistics["shifted"]
    reach = 255 * activation.params.scale[0]
    exact = np.max(wide.channel_max / activation.params.factors) - np.min(wide.channel_min / activation.params.factors)
    assert reach == pytest.approx(exact, rel=0.5)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_a_strength_of_the_users_own(model: ov.Model, statistics: Statistics, alpha: float) -> None:
    planner = _planner(model, statistics, smooth_quant=Smooth(matmul=alpha))
    activation = _by_use(planner(Candidate()))["left", 0]
    factors = np.array(activation.params.factors)
    if alpha == 1.0:
        tensor = statistics["shifted"]
        reach = np.maximum(-tensor.channel_min, tensor.channel_max)
        np.testing.assert_allclose(factors / factors[0], reach / reach[0], rtol=1e-4)
    assert factors.size == C


def _image_model(widths: tuple[int, ...] = (6, 8)) -> ov.Model:
    """A convolution whose input channels differ by orders of magnitude, in one part or in two that are joined."""
    rng = np.random.default_rng(7)
    x = opset.parameter([1, 3, 16, 16], np.float32, name="x")
    parts = []
    for number, width in enumerate(widths):
        spread = np.exp(rng.normal(0.0, 2.0, (width, 1, 1, 1))) * 10.0**number
        kernel = opset.constant((rng.normal(0.0, 0.3, (width, 3, 3, 3)) * spread).astype(np.float32))
        same = ([1, 1], [1, 1], [1, 1], [1, 1])
        parts.append(opset.relu(opset.convolution(x, kernel, *same), name=f"part{number}"))
    whole = parts[0] if len(parts) == 1 else opset.concat(parts, 1, name="whole")
    weight = rng.normal(0.0, 1.0, (32, sum(widths), 3, 3)).astype(np.float32)
    weight /= np.std(weight, axis=(0, 2, 3), keepdims=True)
    out = opset.convolution(whole, opset.constant(weight), [1, 1], [1, 1], [1, 1], [1, 1], name="out")
    return ov.Model([opset.result(opset.relu(out))], [x], "image")


def _images(count: int, seed: int) -> list[F32]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0.0, 1.0, (1, 3, 16, 16)).astype(np.float32) for _ in range(count)]


def _image_planner(model: ov.Model, count: int = 40, **chosen: Any) -> Planner:
    backend = OpenVINOBackend()
    graph, policy = backend.graph(model), Policy(placement="all", **chosen)
    requests = calibration_requests(graph, choose_int8(graph, policy)[0])
    return Planner(graph, policy, backend.observe(model, requests, _images(count, 0), lambda done: None))


@pytest.fixture(scope="module")
def image_model() -> ov.Model:
    return _image_model((12,))


def test_convolutions_are_smoothed_by_default_and_gain(image_model: ov.Model) -> None:
    samples, found = _images(8, 3), {}
    exact = np.concatenate([OpenVINOBackend().compile(image_model, {})([x])[0] for x in samples])
    for name, smooth in (("default", Smooth()), ("off", Smooth(convolution=None))):
        planner = _image_planner(image_model, smooth_quant=smooth)
        compiled = _simulated(image_model, planner, planner(Candidate()))
        found[name] = sqnr(exact, np.concatenate([compiled([x])[0] for x in samples]))
    assert found["default"] > found["off"] + 2.0


def test_smoothed_images_are_not_clipped(image_model: ov.Model) -> None:
    planner = _image_planner(image_model)
    quantizer = _by_use(planner(Candidate()))["out", 0]
    assert quantizer.params.factors
    reach = quantizer.params.scale[0] * 255 * np.array(quantizer.params.factors)
    assert (reach >= planner.statistics["part0"].channel_max * 0.999).all()


def test_few_images_are_not_smoothed(image_model: ov.Model) -> None:
    assert not _by_use(_image_planner(image_model, count=4)(Candidate()))["out", 0].params.factors


def test_a_fixed_strength_needs_no_evidence(image_model: ov.Model) -> None:
    planner = _image_planner(image_model, count=1, smooth_quant=Smooth(convolution=0.5))
    assert _by_use(planner(Candidate()))["out", 0].params.factors


def test_smoothing_a_convolution_adds_no_executed_op(image_model: ov.Model) -> None:
    executed = []
    for smooth in (Smooth(), Smooth(convolution=None)):
        planner = _image_planner(image_model, smooth_quant=smooth)
        plan = planner(Candidate())
        assert bool(_by_use(plan)["out", 0].params.factors) is (smooth.convolution == "auto")
        applied = OpenVINOBackend().apply(image_model, plan, planner.arrays)
        config = {"PERF_COUNT": True, "INFERENCE_PRECISION_HINT": "f32"}
        request = ov.Core().compile_model(applied, "CPU", config).create_infer_request()
        request.infer(_images(1, 3))
        run = [i for i in request.get_profiling_info() if i.status is ov.ProfilingInfo.Status.EXECUTED]
        executed.append(sorted((i.node_type, i.exec_type) for i in run))
    assert executed[0] == executed[1]


def test_what_cannot_be_folded_must_gain_more() -> None:
    model = _image_model((6, 8))
    graph = OpenVINOBackend().graph(model)
    assert demand_of(graph, "whole", [graph.node("out")]) == UNFOLDED
    assert demand_of(graph, "part0", [graph.node("out")]) == CONVOLUTION
