"""Which skip connections read the quantized value."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from maxdrop.data.plan import Candidate, QuantizationPlan
from maxdrop.data.spec import (
    ActivationPolicy,
    AggregatorKind,
    BoundSpec,
    EstimatorSpec,
    Policy,
    Precision,
    StatisticKind,
)
from maxdrop.ptq.numerics import sqnr
from tests.graphs.check import BACKEND, PLAIN, Outcome, lowest_sqnr, outcome, run
from tests.graphs.layers import conv, linear, model, named, parameter, rng

SAMPLES = [rng(f"image{i}").standard_normal((1, 8, 8, 8)).astype(np.float32) for i in range(6)]


def residual(rows: int = 1, *, narrow: bool = False, inner: Any = conv) -> ov.Model:
    """A block "c1", "c2" with a skip connection around it, between "c0" and "c3"."""
    x = parameter((rows, 8, 8, 8))
    start = named(op.relu(conv(x, 8, "c0")), "start")
    kept = named(op.slice(start, [0], [1], [1], [3]), "kept") if narrow else start
    block = inner(named(op.relu(inner(start, 8, "c1")), "middle"), 8, "c2")
    return model([conv(named(op.relu(named(op.add(block, kept), "add")), "end"), 8, "c3")], [x])


def readers(plan: QuantizationPlan, value: str = "start") -> set[str]:
    found = [q for q in plan.quantizers if q.value == value and not q.constant]
    return {use.node for q in found for use in q.uses}


def reverted(result: Outcome, *ops: str) -> QuantizationPlan:
    return result.planner(Candidate().with_precision(dict.fromkeys(ops, Precision.FLOAT)))


def apart(plan: QuantizationPlan) -> QuantizationPlan:
    """The same with a float skip connection."""
    quantizers = [
        q.model_copy(update={"uses": tuple(use for use in q.uses if use.node != "add")}) for q in plan.quantizers
    ]
    return plan.model_copy(update={"quantizers": tuple(quantizers)})


def kernels(compiled: ov.CompiledModel, kind: str) -> int:
    """How many kernels of a kind the runtime executes."""
    kinds = [node.get_rt_info()["layerType"].astype(str) for node in compiled.get_runtime_model().get_ops()]
    return kinds.count(kind)


@pytest.mark.parametrize("rows", [1, -1])
def test_a_skip_connection_around_convolutions_reads_the_quantized_value(rows: int) -> None:
    float_model = residual(rows)
    result = outcome(float_model, SAMPLES, PLAIN)
    assert readers(result.plan) == {"c1", "add"}
    assert all(result.executed.values())
    assert lowest_sqnr(float_model, result.compiled, SAMPLES) > 25


def test_the_runtime_then_executes_fewer_kernels() -> None:
    """With its skip connection in float, a quantizer cannot be merged with what yields the value."""
    float_model = residual()
    result = outcome(float_model, SAMPLES, PLAIN)
    float_skip = BACKEND.compile(BACKEND.apply(float_model, apart(result.plan), result.planner.arrays), {})
    ours = BACKEND.compile(result.model, {})
    counts = [kernels(m, "Subgraph") + kernels(m, "FakeQuantize") + kernels(m, "Reorder") for m in (ours, float_skip)]
    assert counts[0] < counts[1]


def test_it_reads_float_again_when_either_side_is_reverted() -> None:
    result = outcome(residual(), SAMPLES, PLAIN)
    assert readers(reverted(result, "c2")) == {"c1"}
    assert readers(reverted(result, "c1")) == set()


def test_an_ignored_addition_keeps_the_float_value() -> None:
    policy = PLAIN.model_copy(update={"ignored": {"add": "name add"}})
    assert readers(outcome(residual(), SAMPLES, policy).plan) == {"c1"}


def test_a_clipped_value_is_not_shared() -> None:
    """A range may suit the convolution and cut off what matters behind the addition."""
    end = BoundSpec(statistic=StatisticKind.QUANTILE, aggregator=AggregatorKind.MEAN, outlier_prob=0.1)
    clipped = ActivationPolicy(estimator=EstimatorSpec(name="bounds", lower=end, upper=end))
    result = outcome(residual(), SAMPLES, PLAIN.model_copy(update={"activations": clipped}))
    assert readers(result.plan) == {"c1"}


def test_an_addition_that_broadcasts_keeps_the_float_value() -> None:
    assert "add" not in readers(outcome(residual(narrow=True), SAMPLES, PLAIN).plan, "kept")


def test_the_residual_stream_of_products_stays_float() -> None:
    result = outcome(residual(inner=linear), SAMPLES, PLAIN)
    assert readers(result.plan) == {"c1"}


def test_the_switch_of_the_first_reader_takes_the_skip_connection_along() -> None:
    float_model = residual()
    result = outcome(float_model, SAMPLES, PLAIN)
    (exact,) = run(float_model, SAMPLES[:1])
    errors = [
        sqnr(exact[0], BACKEND.switchable(float_model, plan).run(SAMPLES[0], ["c1"])[0])
        for plan in (result.plan, apart(result.plan))
    ]
    assert errors[0] < errors[1] - 1


def test_the_default_policy_shares_it_too() -> None:
    assert "add" in readers(outcome(residual(), SAMPLES, Policy()).plan)
