from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset13 as opset

from maxdrop.backends.openvino.backend import OpenVINOBackend
from maxdrop.data.graph import Contraction
from maxdrop.data.plan import Candidate, load_plan, save_plan
from maxdrop.data.spec import Policy, QuantizerSpec, QuantParams, SmoothQuantPolicy, WeightPolicy
from maxdrop.ptq.build import Planner
from maxdrop.ptq.calibration import calibration_requests
from maxdrop.ptq.numerics import dequantize, fake_quantize, params_from_range, quantize, sqnr, weight_codes
from maxdrop.ptq.payoff import choose_int8
from maxdrop.ptq.rounding import round_codes, rounded_weight
from maxdrop.testing.estimator_suite import statistics_of

F32 = NDArray[np.float32]

OUTPUTS, C = 12, 32
RNG = np.random.default_rng(8)
WEIGHT = RNG.normal(0.0, 1.0, (OUTPUTS, C)).astype(np.float32)
MIX = RNG.normal(0.0, 1.0, (4, C)).astype(np.float32)
SPEC = QuantizerSpec(dtype="int8", axes=(0,), narrow_range=True)
PARAMS = params_from_range(WEIGHT.min(axis=1), WEIGHT.max(axis=1), SPEC)
ACTIVATION = QuantizerSpec(dtype="int8"), QuantParams(scale=(0.01,), zero_point=(0,))


def _correlated(rows: int, seed: int) -> F32:
    """Most of the power lies in 4 of 32 directions."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0.0, 1.0, (rows, 4)) @ MIX + rng.normal(0.0, 0.05, (rows, C))).astype(np.float32)


def _codes(rows: F32) -> NDArray[np.int8] | None:
    return round_codes(WEIGHT, np.asarray(PARAMS.scale), rows, SPEC)


def _output_error(codes: NDArray[Any], rows: F32) -> float:
    return float(np.square(rows @ (dequantize(codes, PARAMS, SPEC) - WEIGHT).T).sum())


def test_correlated_channels_make_up_for_each_other() -> None:
    codes = _codes(_correlated(400, 0))
    assert codes is not None
    assert codes.dtype == np.int8
    assert (np.abs(codes) <= 127).all()
    fresh = _correlated(400, 1)
    assert _output_error(codes, fresh) < 0.5 * _output_error(quantize(WEIGHT, PARAMS, SPEC), fresh)
    assert np.abs(codes - WEIGHT / np.asarray(PARAMS.scale)[:, None]).max() < 8.0


def test_channels_without_correlation_keep_the_nearest_codes() -> None:
    assert _codes(RNG.normal(0.0, 1.0, (400, C)).astype(np.float32)) is None


@pytest.mark.parametrize("rows", [1, 8, C - 1])
def test_too_few_rows_decide_nothing(rows: int) -> None:
    assert _codes(_correlated(rows, 0)) is None


def test_rows_of_zeros_are_no_trouble() -> None:
    assert _codes(np.zeros((400, C), np.float32)) is None


@pytest.mark.parametrize("outputs_first", [True, False])
def test_the_layout_is_the_weights_own(outputs_first: bool) -> None:
    rows = _correlated(400, 0)
    statistics, expected = statistics_of([rows]), _codes(fake_quantize(rows, ACTIVATION[1], ACTIVATION[0]))
    axis = 0 if outputs_first else 1
    contraction = Contraction((0,), (-1,), 1, (axis,), 1 - axis, -1)
    weight = WEIGHT if outputs_first else WEIGHT.T
    spec = SPEC.model_copy(update={"axes": (axis,)})
    found = rounded_weight(weight, contraction, statistics, ACTIVATION, (spec, PARAMS))
    assert found is not None and expected is not None
    assert np.mean(found != (expected if outputs_first else expected.T)) < 0.02


def test_kernels_and_groups_are_left_alone() -> None:
    statistics = statistics_of([_correlated(400, 0)])
    kernel = RNG.normal(0.0, 1.0, (OUTPUTS, C, 3, 3)).astype(np.float32)
    dense = Contraction((0,), (1,), 1, (0,), 1, 1)
    assert rounded_weight(kernel, dense, statistics, ACTIVATION, (SPEC, PARAMS)) is None
    grouped = Contraction((0,), (1,), 1, (0, 1), 2, 1, groups=4)
    weight = RNG.normal(0.0, 1.0, (4, 3, C // 4, 1, 1)).astype(np.float32)
    assert rounded_weight(weight, grouped, statistics, ACTIVATION, (SPEC, PARAMS)) is None


@pytest.mark.parametrize("smooth", ["auto", None])
def test_through_plan_file_and_model(tmp_path: Path, smooth: Any) -> None:
    x = opset.parameter([1, 40, C], np.float32, name="x")
    product = opset.matmul(x, opset.constant(WEIGHT), False, True, name="product")
    model = ov.Model([opset.result(product)], [x])
    backend = OpenVINOBackend()
    graph = backend.graph(model)
    wide = np.where(np.arange(C) % 8 == 0, 30.0, 1.0).astype(np.float32)
    samples = [_correlated(40, seed)[None] * wide for seed in range(50)]
    requests = calibration_requests(graph, choose_int8(graph, Policy(placement="all"))[0])
    statistics = backend.observe(model, requests, samples, lambda done: None)
    found = {}
    for rounding in ("nearest", "gptq"):
        policy = Policy(
            placement="all",
            weights=WeightPolicy(rounding=rounding),
            smooth_quant=SmoothQuantPolicy(matmul=smooth),
        )
        planner = Planner(graph, policy, statistics)
        plan = planner(Candidate())
        assert plan == Planner(graph, policy, statistics)(Candidate())
        save_plan(plan, planner.arrays, tmp_path / "plan.json")
        loaded, arrays = load_plan(tmp_path / "plan.json")
        (weight,) = [q for q in loaded.quantizers if q.constant]
        assert (weight.codes is not None) == (rounding == "gptq")
        applied = backend.apply(model, loaded, arrays)
        (stored,) = [n for n in applied.get_ops() if n.get_element_type() == ov.Type.i8 and "int8" in n.friendly_name]
        np.testing.assert_array_equal(stored.data, weight_codes(weight, WEIGHT, arrays))
        compiled = backend.compile(applied, {"INFERENCE_PRECISION_HINT": "f32"})
        fresh = [_correlated(40, seed)[None] * wide for seed in range(90, 95)]
        found[rounding] = sqnr(
            np.concatenate([sample @ WEIGHT.T for sample in fresh]),
            np.concatenate([compiled([sample])[0] for sample in fresh]),
        )
    # without smoothing the activation's error hides that of the weight
    assert found["gptq"] > found["nearest"] - (0.0 if smooth else 0.1)
