from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from maxdrop.data.graph import Contraction
from maxdrop.data.spec import QuantizerSpec, QuantParams
from maxdrop.ptq.bias_correction import bias_shift, quantized_channel_mean
from maxdrop.ptq.numerics import fake_quantize, params_from_range
from maxdrop.ptq.weights import canonical, channel_sums, weight_params
from maxdrop.testing.estimator_suite import statistics_of

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

SIGNED = QuantizerSpec(dtype="int8")
FREE = QuantizerSpec(dtype="uint8", symmetric=False)
PLAIN = Contraction((0,), (-1,), 1, (1,), 0, -1)
TRANSPOSED = Contraction((0,), (-1,), 1, (0,), 1, -1)
CONVOLUTION = Contraction((0,), (1,), 1, (0,), 1, 1)
GROUPED = Contraction((0,), (1,), 1, (0, 1), 2, 1, groups=2)


def _shift(
    x: F32, weight: F32, contraction: Contraction, spec: QuantizerSpec, params: QuantParams
) -> tuple[F32, F32, F32]:
    """The shift, and the quantized activation and weight."""
    statistics = statistics_of([x])
    form = QuantizerSpec(dtype="int8", axes=contraction.weight_axes, narrow_range=True)
    quantized = fake_quantize(weight, weight_params(weight, form), form)
    after = quantized_channel_mean(statistics, spec, params)
    shift = bias_shift(weight, quantized, contraction, statistics.channel_mean, after)
    flat = spec.model_copy(update={"axes": (1,)}) if spec.axes else spec
    return shift, fake_quantize(x, params, flat), quantized


@given(
    seed=st.integers(0, 2**32 - 1),
    spec=st.sampled_from([SIGNED, FREE, QuantizerSpec(dtype="uint8")]),
    clipped=st.sampled_from([1.0, 0.5, 0.1]),
    transposed=st.booleans(),
)
@settings(max_examples=60)
def test_the_mean_output_is_that_of_the_float_model(
    seed: int, spec: QuantizerSpec, clipped: float, transposed: bool
) -> None:
    """mean(xq) @ Wq + shift = mean(x) @ W, because shift = mean(x) @ W - mean(xq) @ Wq; clipping is part of xq."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.5, 2.0, (50, 7)).astype(np.float32)
    weight = rng.normal(0.0, 1.0, (7, 4)).astype(np.float32)
    params = params_from_range(clipped * x.min(), clipped * x.max(), spec)
    stored, contraction = (np.ascontiguousarray(weight.T), TRANSPOSED) if transposed else (weight, PLAIN)
    shift, xq, wq = _shift(x, stored, contraction, spec, params)
    wq = wq.T if transposed else wq
    before = (x.astype(np.float64) @ weight).mean(axis=0)
    after = (xq.astype(np.float64) @ wq + shift).mean(axis=0)
    np.testing.assert_allclose(after, before, atol=1e-4)
    if clipped == 0.1 and spec is SIGNED:
        assert np.abs((xq.astype(np.float64) @ wq).mean(axis=0) - before).max() > 0.01  # there was something to do


def test_clipping_is_given_back_whole() -> None:
    """Only ones, clipped to a half: the output misses half of every weight's sum."""
    x = np.ones((5, 3), np.float32)
    weight = np.array([[1.0, -2.0], [3.0, 0.0], [4.0, 5.0]], np.float32)
    params = QuantParams(scale=(0.5 / 127,), zero_point=(0,))
    statistics = statistics_of([x])
    after = quantized_channel_mean(statistics, SIGNED, params)
    shift = bias_shift(weight, weight, PLAIN, statistics.channel_mean, after)
    np.testing.assert_allclose(shift, 0.5 * weight.sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("contraction", [CONVOLUTION, GROUPED])
def test_convolutions(contraction: Contraction) -> None:
    """One by one, on the pixels as rows: a convolution is then a product for each group."""
    rng = np.random.default_rng(0)
    groups, outputs, inputs = contraction.groups, 3, 4
    shape = (groups, outputs, inputs, 1, 1) if groups > 1 else (outputs, inputs, 1, 1)
    weight = rng.normal(size=shape).astype(np.float32)
    x = rng.normal(0.4, 1.0, (60, groups * inputs)).astype(np.float32)
    params = params_from_range(0.3 * x.min(), 0.3 * x.max(), SIGNED)
    shift, xq, wq = _shift(x, weight, contraction, SIGNED, params)

    def output(data: F32, kernel: F32) -> F64:
        parts = np.split(data.astype(np.float64), groups, axis=1)
        kernels = kernel.reshape(groups, outputs, inputs)
        return np.concatenate([part @ k.T for part, k in zip(parts, kernels, strict=True)], axis=1)

    assert shift.shape == (groups * outputs,)
    np.testing.assert_allclose((output(xq, wq) + shift).mean(axis=0), output(x, weight).mean(axis=0), atol=1e-5)


def test_kernels_are_summed_over_their_positions() -> None:
    """Inside a wide enough image, every kernel position sees the same mean."""
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(3, 2, 3, 3)).astype(np.float32)
    quantized = (weight * 1.1).astype(np.float32)
    mean = np.array([0.5, -2.0])
    shift = bias_shift(weight, quantized, CONVOLUTION, mean, mean)
    expected = [-0.1 * sum(weight[o, i].sum() * mean[i] for i in range(2)) for o in range(3)]
    np.testing.assert_allclose(shift, expected, rtol=1e-4)


def test_activations_with_one_scale_for_each_channel() -> None:
    rng = np.random.default_rng(2)
    x = (rng.normal(0.5, 1.0, (40, 3)) * [1.0, 10.0, 100.0]).astype(np.float32)
    weight = rng.normal(size=(3, 2)).astype(np.float32)
    spec = QuantizerSpec(dtype="int8", axes=(1,))
    params = params_from_range(0.5 * x.min(axis=0), 0.5 * x.max(axis=0), spec)
    shift, xq, wq = _shift(x, weight, PLAIN, spec, params)
    before = (x.astype(np.float64) @ weight).mean(axis=0)
    np.testing.assert_allclose((xq.astype(np.float64) @ wq + shift).mean(axis=0), before, rtol=1e-4)


def test_the_exact_mean_counts_and_not_that_of_the_rows() -> None:
    """The rows are a sample: their own mean cancels, and only the shift that quantization causes is taken."""
    rows = np.array([[1.0], [3.0]], np.float32)
    statistics = statistics_of([rows])
    exact = type(statistics)(**{**vars(statistics), "channel_mean": np.array([7.0], np.float32)})
    params = QuantParams(scale=(2.0 / 127,), zero_point=(0,))  # clips 3 to 2
    found = quantized_channel_mean(exact, SIGNED, params)
    assert found[0] == pytest.approx(7.0 - 0.5, abs=0.01)


LAYOUTS: list[tuple[tuple[int, ...], Contraction]] = [
    ((5, 4), PLAIN),
    ((4, 5), TRANSPOSED),
    ((4, 5, 3, 3), CONVOLUTION),
    ((2, 4, 5, 3, 3), GROUPED),
    ((5, 4, 3, 3), Contraction((0,), (1,), 1, (1,), 0, 1)),
    ((2, 5, 4, 3, 3), Contraction((0,), (1,), 1, (0, 2), 1, 1, groups=2)),
]
"""Shapes with 4 outputs and 5 inputs to a group: both matrix layouts, convolutions, and transposed convolutions."""


@pytest.mark.parametrize(("shape", "contraction"), LAYOUTS)
def test_canonical_layout(shape: tuple[int, ...], contraction: Contraction) -> None:
    weight: NDArray[Any] = np.arange(np.prod(shape)).reshape(shape)
    found = canonical(weight, contraction)
    positions = 9 if len(shape) > 2 else 1
    assert found.shape == (contraction.groups, 4, 5, positions)
    for group in range(contraction.groups):
        index: list[Any] = [slice(None)] * len(shape)
        if contraction.groups > 1:
            index[contraction.weight_axes[0]] = group
        index[contraction.weight_axes[-1]], index[contraction.weight_channel_axis] = 1, 3
        np.testing.assert_array_equal(found[group, 1, 3], weight[tuple(index)].ravel())
    np.testing.assert_array_equal(channel_sums(weight, contraction), found.sum(axis=3))
