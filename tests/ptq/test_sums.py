"""Residual additions with integers on both sides, where a policy asks for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from maxdrop.data.plan import Candidate, QuantizationPlan
from maxdrop.data.spec import Precision
from maxdrop.ptq.sums import may_have_integer_sums
from tests.graphs.check import BACKEND, PLAIN, Outcome, lowest_sqnr, outcome, run
from tests.graphs.layers import conv, model, named, parameter, rng

INTEGER = PLAIN.model_copy(update={"integer_sums": True})
SAMPLES = [rng(f"image{i}").standard_normal((1, 8, 8, 8)).astype(np.float32) for i in range(6)]


def bottleneck(*, kernel: int = 1, downsampled: bool = False, wide: int = 32, tail: bool = True) -> ov.Model:
    """A bottleneck block "c1", "c2", "c3" with a skip connection around it, between "c0" and "c4"."""
    x = parameter((-1, 8, 8, 8))
    start = named(op.relu(conv(x, wide, "c0")), "start")
    inner = named(op.relu(conv(start, 8, "c1", kernel=1)), "r1")
    inner = named(op.relu(conv(inner, 8, "c2")), "r2")
    beside = conv(start, wide, "shortcut", kernel=1) if downsampled else start
    total = named(op.relu(named(op.add(conv(inner, wide, "c3", kernel=kernel), beside), "add")), "end")
    return model([conv(total, 8, "c4") if tail else total], [x])


def sums(plan: QuantizationPlan) -> set[str]:
    """The values that are quantized for an addition alone."""
    return {q.value for q in plan.quantizers if not q.constant and not q.serves}


def made(built: ov.Model) -> Outcome:
    return outcome(built, SAMPLES, INTEGER)


def test_both_sides_of_an_addition_are_quantized() -> None:
    built = bottleneck()
    result, plain = made(built), outcome(built, SAMPLES, PLAIN)
    assert len(sums(result.plan)) == 1 and not sums(plain.plan)
    names = {node.get_friendly_name(): node for node in result.model.get_ops()}
    assert {port.get_node().get_type_name() for port in names["add"].input_values()} == {"FakeQuantize"}
    assert all(result.executed.values())
    assert lowest_sqnr(built, result.compiled, SAMPLES) > lowest_sqnr(built, plain.compiled, SAMPLES) - 3


def test_both_convolutions_of_a_block_that_changes_the_size() -> None:
    built = bottleneck(downsampled=True)
    result = made(built)
    assert len(sums(result.plan)) == 2
    assert lowest_sqnr(built, result.compiled, SAMPLES) > 25


def test_the_range_is_that_of_the_output_of_the_convolution_with_its_bias() -> None:
    built = bottleneck()
    (quantizer,) = [q for q in made(built).plan.quantizers if not q.constant and not q.serves]
    names = {node.get_friendly_name(): node for node in built.get_ops()}
    watched = ov.Model([names["add"].input_value(0)], built.get_parameters(), "watched")
    seen = max(float(np.abs(values).max()) for values in run(watched, SAMPLES)[0])
    reach = quantizer.params.scale[0] * 127
    assert 0.6 * seen <= reach <= 1.6 * seen


@pytest.mark.parametrize("form", [Precision.FLOAT, Precision.INT8_WEIGHTS])
@pytest.mark.parametrize("op_name", ["c3", "c4", "c1"])
def test_it_is_lost_with_an_op_around_the_addition(op_name: str, form: Precision) -> None:
    """With c3 the convolution is float, with c4 the sum, with c1 the skip connection."""
    built = bottleneck()
    result = made(built)
    plan = result.planner(Candidate().with_precision({op_name: form}))
    assert not sums(plan)
    assert lowest_sqnr(built, BACKEND.apply(built, plan, result.planner.arrays), SAMPLES) > 25


@pytest.mark.parametrize("shape", [{"kernel": 3}, {"tail": False}])
def test_not_where_the_range_is_unknown_or_the_sum_is_float(shape: dict[str, Any]) -> None:
    assert not sums(made(bottleneck(**shape)).plan)


@pytest.mark.parametrize("downsampled", [True, False])
def test_an_ignored_addition_stays_float(downsampled: bool) -> None:
    policy = INTEGER.model_copy(update={"ignored": {"add": "by name"}})
    result = outcome(bottleneck(downsampled=downsampled), SAMPLES, policy)
    assert not sums(result.plan)
    assert "add" not in {use.node for q in result.plan.quantizers for use in q.uses}


def test_only_additions_of_many_elements_are_worth_measuring() -> None:
    def worth(built: ov.Model) -> bool:
        graph = BACKEND.graph(built)
        return may_have_integer_sums(graph, [node.name for node in graph.contractions])

    assert worth(bottleneck(wide=32))
    assert not worth(bottleneck(wide=32, kernel=3))
    assert not may_have_integer_sums(BACKEND.graph(bottleneck()), [])


def test_a_switchable_model_leaves_them_out() -> None:
    built = bottleneck()
    result = made(built)
    switchable = BACKEND.switchable(built, result.plan)
    off = switchable.run(SAMPLES[0], [])
    on = switchable.run(SAMPLES[0], list(switchable.ops))
    assert np.abs(on[0] - off[0]).max() > 0
