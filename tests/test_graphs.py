"""A table of small graphs, one for each pattern; and properties that hold for random graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openvino import opset13 as op

import maxdrop as md
from maxdrop.data.spec import Policy, Precision
from tests.graphs import bodies, branches, convolutions, forms, products
from tests.graphs.case import Case, Placement
from tests.graphs.check import (
    BACKEND,
    F32,
    content,
    lowest_sqnr,
    outcome,
    planner_for,
    quantize,
    recorded,
    run,
    signature,
)  # fmt: skip
from tests.graphs.layers import add_bias, conv, model, parameter, rng
from tests.graphs.random_graph import STEPS, Step, build

CASES = [case for table in (convolutions, branches, products, forms, bodies) for case in table.CASES]
ROWS = [pytest.param(case, way, id=f"{case.name}-{way}") for case in CASES for way in case.placements]


def test_the_table_is_broad_and_its_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 40


@pytest.mark.parametrize(("case", "placement"), ROWS)
def test_graph(case: Case, placement: Placement, tmp_path: Path) -> None:
    float_model = case.build()
    before = content(float_model, tmp_path)
    result = quantize(float_model, case.samples(1, 32), placement)
    plan = result.plan

    assert content(float_model, tmp_path) == before
    assert signature(result.model) == signature(float_model)
    assert set(plan.int8_ops) == case.expected(placement)
    assert {op for op, ran in result.executed.items() if ran} == case.executed(placement)
    stated = case.reasons if placement == "table" else case.reasons_all
    assert all(part in plan.float_ops[name] for name, part in stated.items())
    assert {node.name for node in result.planner.graph.contractions} <= {*plan.int8_ops, *plan.float_ops}
    floor = case.floor if placement == "table" else case.floor_all
    assert lowest_sqnr(float_model, result.compiled, case.samples(2, 4)) >= floor


def _images(count: int) -> list[Any]:
    random = rng("images")
    return [random.standard_normal((1, 8, 8, 8)).astype(np.float32) for _ in range(count)]


def test_nothing_to_quantize_is_said() -> None:
    with pytest.warns(UserWarning, match="nothing in this model is worth int8"):
        result = md.quantize(bodies.nothing_to_quantize(), md.Dataset(_images(2)))
    assert not any(node.get_type_name() == "FakeQuantize" for node in result.get_ops())


def test_a_quantized_model_is_refused() -> None:
    x = parameter((1, 8, 8, 8))
    ends = [np.float32(end) for end in (-1, 1, -1, 1)]
    quantized = model([conv(op.fake_quantize(x, *ends, 256), 8, "c")], [x])
    with pytest.raises(md.UnsupportedModelError, match="FakeQuantize"):
        md.quantize(quantized, md.Dataset(_images(2)))


def test_an_op_that_met_nan_stays_float() -> None:
    x, y = parameter((1, 8, 8, 8)), parameter((1, 8, 8, 8), "y")
    float_model = model([conv(op.relu(x), 8, "good"), conv(op.sqrt(y), 8, "bad")], [x, y])
    samples = [(image, image) for image in _images(4)]
    result = outcome(float_model, samples)
    assert result.plan.int8_ops == ("good",)
    assert "NaN" in result.plan.float_ops["bad"]
    assert result.executed == {"good": True, "bad": False}


def test_larger_calibration_batches_than_the_model_was_made_for() -> None:
    float_model = forms.dynamic_batch()
    batches = [rng(f"batch{i}").standard_normal((6, 8, 8, 8)).astype(np.float32) for i in range(4)]
    statistics = planner_for(float_model, batches, Policy()).statistics
    assert statistics["x"].count == 24
    assert lowest_sqnr(float_model, outcome(float_model, batches).model, batches) > 25


def test_a_result_keeps_its_names_when_a_bias_is_added() -> None:
    float_model = convolutions.conv_without_bias()
    result = outcome(float_model, _images(4))
    assert {edit.op for edit in result.plan.edits} == {"c1", "c2"}
    compiled = BACKEND.compile(result.model, F32)
    assert compiled(_images(1)[0])["out0"].shape == (1, 8, 8, 8)


def test_weights_only_products_store_int8_codes() -> None:
    case = next(c for c in products.CASES if c.name == "linear_transposed")
    float_model, samples = products.linear_transposed(), case.samples(1, 4)
    planner = planner_for(float_model, samples, Policy())
    plan = planner(md.Candidate(precisions=dict.fromkeys(planner.int8_ops, Precision.INT8_WEIGHTS)))
    result = BACKEND.apply(float_model, plan, planner.arrays)
    types = [node.get_element_type() for node in result.get_ops() if node.get_type_name() == "Constant"]
    assert ov.Type.i8 in types
    assert lowest_sqnr(float_model, result, samples) > 25


def test_weights_only_convolutions_compute_in_float() -> None:
    float_model = convolutions.conv_relu_chain()
    planner = planner_for(float_model, _images(4), Policy())
    plan = planner(md.Candidate(precisions={"c2": Precision.INT8_WEIGHTS}))
    result = BACKEND.apply(float_model, plan, planner.arrays)
    assert BACKEND.executed(BACKEND.compile(result, F32), plan) == {"c1": True, "c2": False, "c3": True}
    weight = next(n for n in result.get_ordered_ops() if n.get_friendly_name() == "c2").input_value(1)
    assert weight.get_node().get_type_name() == "Constant"
    assert len(np.unique(weight.get_node().data[0])) <= 255  # rounded to the int8 grid all the same
    assert lowest_sqnr(float_model, result, _images(4)) > 25


@pytest.mark.parametrize("batch", [1, -1])
def test_a_convolution_with_several_readers_and_any_batch(batch: int) -> None:
    """Which the runtime computes wrongly for a dynamic batch, if nothing stands between."""
    x = parameter((batch, 8, 8, 8))
    y = conv(x, 8, "c1", bias=False)
    ends = [conv(add_bias(y, 8, "b"), 8, "c2"), conv(op.relu(y), 8, "c3")]
    float_model, samples = model(ends, [x]), _images(8)
    advanced = md.AdvancedQuantizationParameters(disable_bias_correction=True)
    result = md.quantize(float_model, md.Dataset(samples), placement="all", advanced_parameters=advanced)
    assert lowest_sqnr(float_model, result, samples) > 25


def test_a_shift_joins_the_bias_whoever_asks_for_the_shape() -> None:
    x = parameter((-1, 8, 8, 8))
    y = conv(x, 8, "c1")
    raw = y.input_value(0)
    shaped = op.reshape(op.relu(y), op.shape_of(raw), False)
    float_model = model([conv(shaped, 8, "c2")], [x])
    result = outcome(float_model, _images(4))
    assert "c1" in {edit.op for edit in result.plan.edits}
    assert "c1/add_bias" not in {node.get_friendly_name() for node in result.model.get_ops()}


@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, placement=st.sampled_from(["table", "all"]), picks=st.lists(st.integers(0, 30), max_size=3))
def test_random_graph(steps: list[Step], placement: Placement, picks: list[int]) -> None:
    float_model = BACKEND.own(build(steps))
    samples = _images(6)
    result = quantize(float_model, samples, placement)
    plan, planner = result.plan, result.planner
    contractions = {node.name for node in planner.graph.contractions}

    assert signature(result.model) == signature(float_model)
    assert contractions <= {*plan.int8_ops, *plan.float_ops}
    executed = result.executed
    assert not any(executed[name] for name in plan.float_ops)
    assert all(np.isfinite(output).all() for outputs in run(result.compiled, samples[:2]) for output in outputs)
    assert recorded(result.model, "plan_key") == plan.key()

    chosen = {plan.int8_ops[i % len(plan.int8_ops)]: Precision.FLOAT for i in picks if plan.int8_ops}
    fewer = planner(md.Candidate(precisions=chosen))
    assert set(fewer.int8_ops) == set(plan.int8_ops) - set(chosen)
    assert set(fewer.float_ops) == set(plan.float_ops) | set(chosen)
    assert fewer.key() == planner(md.Candidate(precisions=dict(reversed(chosen.items())))).key()
    if chosen:
        reverted = BACKEND.apply(float_model, fewer, planner.arrays)
        ran = BACKEND.executed(BACKEND.compile(reverted, F32), fewer)
        assert not any(ran[name] for name in fewer.float_ops)
