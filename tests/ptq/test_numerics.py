"""Against two implementations that share no code with ours: ONNX's reference and OpenVINO's FakeQuantize."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from openvino import opset13 as opset

from maxdrop.data.spec import QuantizerSpec, QuantParams
from maxdrop.ptq.numerics import (
    dequantize,
    fake_quantize,
    kept_shape,
    nmse,
    params_from_range,
    quantize,
    reduced_axes,
    sqnr,
)

F32 = NDArray[np.float32]

SPECS = [
    QuantizerSpec(dtype="int8"),
    QuantizerSpec(dtype="int8", narrow_range=True),
    QuantizerSpec(dtype="int8", reduced_range=True),
    QuantizerSpec(dtype="int8", narrow_range=True, reduced_range=True),
    QuantizerSpec(dtype="int8", symmetric=False),
    QuantizerSpec(dtype="uint8"),
    QuantizerSpec(dtype="uint8", reduced_range=True),
    QuantizerSpec(dtype="uint8", symmetric=False),
    QuantizerSpec(dtype="uint8", symmetric=False, reduced_range=True),
]
CODES = [(-128, 127), (-127, 127), (-64, 63), (-63, 63), (-128, 127), (0, 255), (0, 127), (0, 255), (0, 127)]

specs = st.sampled_from(SPECS)
finite = st.floats(-1e6, 1e6, width=32)
ends = st.tuples(finite, finite).map(sorted)
tensors = hnp.arrays(np.float32, (4, 3, 5), elements=st.floats(-500, 500, width=32))
axes_of_three = st.sampled_from([(), (0,), (1,), (2,), (-1,), (0, 1), (-2, -1)])


@pytest.mark.parametrize(("spec", "codes"), list(zip(SPECS, CODES, strict=True)))
def test_codes_of_every_form(spec: QuantizerSpec, codes: tuple[int, int]) -> None:
    assert (spec.quant_min, spec.quant_max) == codes


@given(ends, specs)
def test_zero_is_exact_and_zero_point_a_code(bounds: list[float], spec: QuantizerSpec) -> None:
    params = params_from_range(bounds[0], bounds[1], spec)
    (zero,) = params.zero_point
    assert isinstance(zero, int)
    assert spec.quant_min <= zero <= spec.quant_max
    assert not spec.symmetric or zero == 0
    assert np.float32(params.scale[0]) == params.scale[0] > 0
    assert fake_quantize(np.zeros(3, np.float32), params, spec).tolist() == [0.0] * 3


@given(ends, specs)
def test_the_range_is_covered_and_little_more(bounds: list[float], spec: QuantizerSpec) -> None:
    """Unsigned symmetric quantizers give up what is negative."""
    low, high = _represented(bounds, spec)
    params = params_from_range(low, high, spec)
    step = params.scale[0]
    lowest, highest = ((code - params.zero_point[0]) * step for code in (spec.quant_min, spec.quant_max))
    rounding = 1e-6 * max(high, -low)
    assert lowest <= low + rounding
    assert highest >= high - rounding
    if max(high, -low) > 1e-30:
        if spec.symmetric:
            assert step == pytest.approx(max(high, -low if spec.dtype == "int8" else 0.0) / spec.quant_max)
        else:
            steps = spec.quant_max - spec.quant_min
            assert step <= 1.0001 * (high - low) / steps * steps / (steps - 1)


def test_a_short_negative_tail_does_not_widen_the_step() -> None:
    """Exactly 1.4 codes below zero: one code would need a step of 1.4, two codes one of 1.002."""
    params = params_from_range(-1.4, 253.6, QuantizerSpec(dtype="uint8", symmetric=False))
    assert params.zero_point == (2,)
    assert params.scale[0] == pytest.approx(253.6 / 253)


@given(ends, specs, st.integers(0, 2**32 - 1))
def test_inside_the_range_the_error_is_at_most_half_a_step(bounds: list[float], spec: QuantizerSpec, seed: int) -> None:
    low, high = _represented(bounds, spec)
    params = params_from_range(low, high, spec)
    x = np.random.default_rng(seed).uniform(low, high, 64).astype(np.float32)
    error = np.abs(fake_quantize(x, params, spec).astype(np.float64) - x)
    assert error.max() <= 0.501 * params.scale[0] + 1e-30


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (-0.0, 0.0), (1e-40, 1e-40), (-1e-45, 0.0)])
def test_a_range_without_width_gets_scale_one(spec: QuantizerSpec, low: float, high: float) -> None:
    params = params_from_range(low, high, spec)
    assert params.scale == (1.0,)
    assert not fake_quantize(np.array([low, high], np.float32), params, spec).any()


@given(st.lists(ends, min_size=1, max_size=6), specs)
def test_arrays_of_ranges_are_their_entries(bounds: list[list[float]], spec: QuantizerSpec) -> None:
    lower, upper = np.array(bounds).T
    together = params_from_range(lower, upper, spec)
    alone = [params_from_range(low, high, spec) for low, high in bounds]
    assert together.scale == tuple(p.scale[0] for p in alone)
    assert together.zero_point == tuple(p.zero_point[0] for p in alone)


@given(tensors, specs, axes_of_three, st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_codes_equal_those_of_onnx(x: F32, form: QuantizerSpec, axes: tuple[int, ...], seed: int) -> None:
    """ONNX knows one axis at most and no narrow ranges; two axes are flattened to one, and its codes clipped."""
    spec = form.model_copy(update={"axes": axes})
    params = _random_params(x.shape, spec, seed)
    flat, axis = _one_axis(x, axes)
    scale, zero = np.array(params.scale, np.float32), np.array(params.zero_point, spec.dtype)
    if not axes:
        scale, zero = scale.reshape(()), zero.reshape(())
    (codes,) = _onnx("QuantizeLinear", axis, flat, scale, zero)
    clipped = np.clip(codes, spec.quant_min, spec.quant_max)
    ours = quantize(x, params, spec)
    assert ours.dtype == np.dtype(spec.dtype)
    np.testing.assert_array_equal(ours, clipped.reshape(x.shape))
    (real,) = _onnx("DequantizeLinear", axis, clipped, scale, zero)
    np.testing.assert_array_equal(dequantize(ours, params, spec), real.reshape(x.shape))
    np.testing.assert_array_equal(fake_quantize(x, params, spec), real.reshape(x.shape))


@given(hnp.arrays(np.float32, (64,), elements=st.floats(-300, 300, width=32)), ends, specs)
@settings(max_examples=40)
def test_fake_quantize_equals_openvino(x: F32, bounds: list[float], spec: QuantizerSpec) -> None:
    """But for ties: OpenVINO rounds half to even counted from the lowest code, the kernels counted from zero."""
    params = params_from_range(bounds[0] / 1e4, bounds[1] / 1e4 + 0.1, spec)
    scale, zero = np.float64(params.scale[0]), params.zero_point[0]
    low, high = ((code - zero) * scale for code in (spec.quant_min, spec.quant_max))
    run = _openvino_fake_quantize(spec.quant_max - spec.quant_min + 1)
    theirs = run([x, np.float32(low), np.float32(high)])[0]
    ours = fake_quantize(x, params, spec)
    tie = np.abs(np.abs(x / scale - np.rint(x / scale)) - 0.5) < 1e-3
    np.testing.assert_allclose(ours[~tie], theirs[~tie], rtol=1e-4, atol=1e-4 * float(scale))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1.001 * float(scale))


def test_halves_round_to_even() -> None:
    spec, params = QuantizerSpec(dtype="int8"), QuantParams(scale=(2.0,), zero_point=(0,))
    x = np.array([-5.0, -3.0, -1.0, 1.0, 3.0, 5.0, 7.0], np.float32)
    assert quantize(x, params, spec).tolist() == [-2, -2, 0, 0, 2, 2, 4]
    odd = QuantizerSpec(dtype="uint8", symmetric=False)
    assert quantize(x, QuantParams(scale=(2.0,), zero_point=(3,)), odd).tolist() == [1, 1, 3, 3, 5, 5, 7]


@pytest.mark.parametrize("spec", SPECS)
def test_saturation(spec: QuantizerSpec) -> None:
    params = QuantParams(scale=(1e-3,), zero_point=(0,))
    largest = float(np.finfo(np.float32).max)
    x = np.array([-np.inf, -largest, -1e3, 1e3, largest, np.inf], np.float32)
    assert quantize(x, params, spec).tolist() == [spec.quant_min] * 3 + [spec.quant_max] * 3


@given(tensors, specs)
def test_quantizing_twice_changes_nothing(x: F32, spec: QuantizerSpec) -> None:
    params = params_from_range(x.min(), x.max(), spec)
    once = fake_quantize(x, params, spec)
    np.testing.assert_array_equal(fake_quantize(once, params, spec), once)


@given(tensors, specs, axes_of_three)
def test_kept_axes_are_quantized_one_by_one(x: F32, form: QuantizerSpec, axes: tuple[int, ...]) -> None:
    spec = form.model_copy(update={"axes": axes})
    reduced = reduced_axes(3, axes)
    params = params_from_range(x.min(axis=reduced), x.max(axis=reduced), spec)
    found = fake_quantize(x, params, spec)
    shape = kept_shape(x.shape, axes)
    assert len(params.scale) == int(np.prod(shape))
    for number, index in enumerate(np.ndindex(shape)):
        part = tuple(i if size > 1 else slice(None) for i, size in zip(index, shape, strict=True))
        alone = QuantParams(scale=params.scale[number : number + 1], zero_point=params.zero_point[number : number + 1])
        np.testing.assert_array_equal(found[part], fake_quantize(x[part], alone, form))


@given(tensors, specs, axes_of_three, st.integers(0, 2))
@settings(max_examples=50)
def test_factors_scale_each_channel(x: F32, form: QuantizerSpec, axes: tuple[int, ...], axis: int) -> None:
    """Quantizing with factors is dividing by them, quantizing, and multiplying again; powers of two are exact."""
    spec = form.model_copy(update={"axes": axes})
    params = _random_params(x.shape, spec, 5)
    factors = np.exp2(np.arange(x.shape[axis]) - 2).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(3)]
    expected = fake_quantize(x / factors.reshape(shape), params, spec) * factors.reshape(shape)
    smooth = spec.model_copy(update={"smooth_axis": axis})
    with_factors = params.model_copy(update={"factors": tuple(float(f) for f in factors)})
    np.testing.assert_array_equal(fake_quantize(x, with_factors, smooth), expected)


def test_the_input_stays_as_it_is() -> None:
    x = np.linspace(-1, 1, 12, dtype=np.float32)
    before = x.copy()
    fake_quantize(x, params_from_range(-0.5, 0.5, SPECS[0]), SPECS[0])
    np.testing.assert_array_equal(x, before)


def test_nmse_and_sqnr() -> None:
    x, y = np.array([3.0, 4.0], np.float32), np.array([3.0, 3.5], np.float32)
    assert nmse(x, y) == pytest.approx(0.25 / 25)
    assert sqnr(x, y) == pytest.approx(20.0)
    assert (nmse(x, x), sqnr(x, x)) == (0.0, float("inf"))
    nothing = np.zeros(2, np.float32)
    assert (nmse(nothing, nothing), nmse(nothing, x)) == (0.0, float("inf"))


def _represented(bounds: list[float], spec: QuantizerSpec) -> tuple[float, float]:
    """The part of the range, widened to zero, that the form can represent."""
    low, high = min(bounds[0], 0.0) + 0.0, max(bounds[1], 0.0) + 0.0
    return (0.0 if spec.symmetric and spec.dtype == "uint8" else low), high


def _random_params(shape: tuple[int, ...], spec: QuantizerSpec, seed: int) -> QuantParams:
    rng = np.random.default_rng(seed)
    size = int(np.prod(kept_shape(shape, spec.axes)))
    zeros = [0] * size if spec.symmetric else rng.integers(spec.quant_min, spec.quant_max + 1, size).tolist()
    scales = np.exp2(rng.uniform(-8, 3, size)).astype(np.float32)
    scales[::2] = np.exp2(np.rint(np.log2(scales[::2])))  # powers of two meet ties exactly
    return QuantParams(scale=tuple(float(s) for s in scales), zero_point=tuple(zeros))


def _one_axis(x: F32, axes: tuple[int, ...]) -> tuple[F32, int]:
    """`x` with the kept axes merged to one, and that axis."""
    kept = [axis % 3 for axis in axes]
    if len(kept) < 2:
        return x, kept[0] if kept else 0
    return (x.reshape(12, 5), 0) if kept == [0, 1] else (x.reshape(4, 15), 1)


def _onnx(kind: str, axis: int, data: NDArray[Any], scale: F32, zero: NDArray[Any]) -> list[NDArray[Any]]:
    names = ["data", "scale", "zero"]
    dtypes = [onnx.helper.np_dtype_to_tensor_dtype(a.dtype) for a in (data, scale, zero)]
    inputs = [onnx.helper.make_tensor_value_info(n, t, None) for n, t in zip(names, dtypes, strict=True)]
    made = dtypes[2] if kind == "QuantizeLinear" else dtypes[1]
    outputs = [onnx.helper.make_tensor_value_info("out", made, None)]
    graph = onnx.helper.make_graph([onnx.helper.make_node(kind, names, ["out"], axis=axis)], "g", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)])
    found = ReferenceEvaluator(model).run(None, {"data": data, "scale": scale, "zero": zero})
    return [np.asarray(array) for array in found]


@cache
def _openvino_fake_quantize(levels: int) -> Any:
    x, low, high = (opset.parameter(shape, np.float32) for shape in ([64], [], []))
    made = opset.fake_quantize(x, low, high, low, high, levels)
    model = ov.Model([opset.result(made)], [x, low, high], "fq")
    return ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
