"""Zero points of matrix products are moved into the bias, and the product stays the same."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from openvino import opset13 as op

import maxdrop as md
from maxdrop.data.spec import ActivationPolicy, EstimatorSpec, Policy, Precision, SmoothQuantPolicy
from maxdrop.data.statistics import Request
from maxdrop.ptq.numerics import sqnr
from tests.graphs.check import BACKEND, outcome, planner_for, run
from tests.graphs.layers import const, model, named, parameter

ASYMMETRIC = Policy(
    placement="all",
    activations=ActivationPolicy(symmetric=False, estimator=EstimatorSpec(name="minmax")),
    smooth_quant=SmoothQuantPolicy(matmul=None),
)
IN, OUT = 16, 8


def weight(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0.3, 1, shape).astype(np.float32)


def samples(*shape: int, shift: float = 0.7) -> list[NDArray[np.float32]]:
    """Values with another magnitude below than above."""
    return [np.random.default_rng(i).normal(shift, 1, shape).astype(np.float32) for i in range(6)]


def yields_from_zero(built: ov.Model, value: str) -> bool:
    """Whether the quantizer on `value` yields 0 at the low end of its range."""
    names = {node.get_friendly_name(): node for node in built.get_ops()}
    node = names[f"{value}/fake_quantize"]
    low = [float(node.input_value(i).get_node().get_data().min()) for i in (1, 3)]
    assert low[0] < 0
    return low[1] == 0.0


def product(x: ov.Node, name: str, *, transposed: bool = False, bias: bool = True) -> ov.Node:
    shape = (OUT, IN) if transposed else (IN, OUT)
    y = named(op.matmul(x, const(weight(len(name), *shape)), False, transposed), name)
    return op.add(y, const(weight(1, OUT))) if bias else y


@given(shift=st.floats(-2, 2), transposed=st.booleans(), bias=st.booleans(), moved=st.booleans(), smooth=st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_model_computes_the_same_as_with_zero_points(
    shift: float, transposed: bool, bias: bool, moved: bool, smooth: bool
) -> None:
    x = parameter((4, IN), "x")
    y = op.reshape(x, np.array([2, 2, IN]), False) if moved else x
    float_model = model([product(y, "first", transposed=transposed, bias=bias), product(y, "second")], [x])
    alpha = SmoothQuantPolicy() if smooth else SmoothQuantPolicy(matmul=None)
    data = samples(4, IN, shift=shift)
    made = outcome(float_model, data, ASYMMETRIC.model_copy(update={"smooth_quant": alpha}))
    plain = BACKEND.apply(float_model, made.plan, made.planner.arrays, observable=True)
    assert yields_from_zero(made.model, "x") and not yields_from_zero(plain, "x")
    assert all(made.executed.values())
    for moved_into_bias, reference in zip(run(made.model, data), run(plain, data), strict=True):
        assert sqnr(np.stack(reference), np.stack(moved_into_bias)) > 90


def test_a_range_that_others_read_as_well_keeps_its_zero_point() -> None:
    """A convolution, and the other branches of a concatenation, would see other numbers."""
    x, z = parameter((1, 8, 8, IN), "x"), parameter((1, 8, 8, IN), "z")
    joined = op.concat([z, op.multiply(z, const(np.float32(0.5)))], -1)
    outputs = [
        op.convolution(x, const(weight(5, 4, 8, 3, 3)), [1, 1], [1, 1], [1, 1], [1, 1]),
        product(x, "both"),
        named(op.matmul(joined, const(weight(3, 2 * IN, OUT)), False, False), "joined"),
    ]
    shape = (1, 8, 8, IN)
    data = [{"x": a, "z": b} for a, b in zip(samples(*shape), samples(*shape, shift=0.2), strict=True)]
    made = outcome(model(outputs, [x, z]), data, ASYMMETRIC)
    assert len(made.plan.int8_ops) == 3
    assert not yields_from_zero(made.model, "x")
    assert not yields_from_zero(made.model, "z")


def test_convolutions_keep_their_zero_points() -> None:
    """The border of a convolution is padded with zeros, which no constant can make up for."""
    x = parameter((1, 3, 8, 8), "x")
    y = op.convolution(x, const(weight(5, 4, 3, 3, 3)), [1, 1], [1, 1], [1, 1], [1, 1])
    assert not yields_from_zero(outcome(model([y], [x]), samples(1, 3, 8, 8), ASYMMETRIC).model, "x")


@pytest.mark.parametrize("first", [Precision.FLOAT, Precision.INT8_WEIGHTS, Precision.INT8])
def test_a_reverted_product_loses_the_constant_with_its_quantizer(first: Precision) -> None:
    x = parameter((4, IN), "x")
    float_model = model([product(x, "first"), product(x, "second")], [x])
    data = samples(4, IN)
    planner = planner_for(float_model, data, ASYMMETRIC)
    plan = planner(md.Candidate().with_precision({"first": first}))
    ours, plain = (
        run(BACKEND.apply(float_model, plan, planner.arrays, observable=observable), data)
        for observable in (False, True)
    )
    for found, reference in zip(ours, plain, strict=True):
        assert sqnr(np.stack(reference), np.stack(found)) > 90


def test_outputs_of_products_mean_the_same_in_a_model_to_observe() -> None:
    """Measured bias correction compares them with those of the float model."""
    x = parameter((4, IN), "x")
    float_model = model([product(x, "first")], [x])
    data = samples(4, IN, shift=2.0)
    made = outcome(float_model, data, ASYMMETRIC)

    def means(built: ov.Model) -> NDArray[np.float64]:
        found = BACKEND.observe(built, [Request("first", -1)], data, lambda done: None)
        return np.asarray(found["first"].channel_mean, np.float64)

    want = means(float_model)
    observable = BACKEND.apply(float_model, made.plan, made.planner.arrays, observable=True)
    assert np.abs(means(observable) - want).max() < 0.1
    assert np.abs(means(made.model) - want).max() > 0.5
