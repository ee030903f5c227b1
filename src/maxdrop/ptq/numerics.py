"""The arithmetic of quantization, stated once.

real = scale * (q - zero_point),   q = clip(round_half_even(real / scale) + zero_point, quant_min, quant_max)

Scales are float32 and zero points are integers: with a fractional zero point the integer kernels compute
something else than the simulation. Zero is always exactly representable, so that padding stays exact.

With SmoothQuant each channel has a factor: real = factor * scale * (q - zero_point).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.plan import Arrays, Quantizer
from maxdrop.data.spec import QuantizerSpec, QuantParams

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_TINY = float(np.finfo(np.float32).tiny)


def params_from_range(lower: Any, upper: Any, spec: QuantizerSpec) -> QuantParams:
    """Scale and zero point that represent [lower, upper] and zero.

    Args:
        lower: float, or array with one entry for each kept index.
        upper: like `lower`.
        spec: form of the quantizer.

    Returns:
        Parameters whose scale is a normal float32 above zero; a range of zero width gets scale 1.
    """
    low = np.minimum(np.atleast_1d(np.asarray(lower, np.float64)).ravel(), 0.0)
    high = np.maximum(np.atleast_1d(np.asarray(upper, np.float64)).ravel(), 0.0)
    scale, zero = _symmetric(low, high, spec) if spec.symmetric else _asymmetric(low, high, spec)
    return QuantParams(scale=tuple(float(s) for s in scale.astype(np.float32)), zero_point=tuple(int(z) for z in zero))


def _symmetric(low: F64, high: F64, spec: QuantizerSpec) -> tuple[F64, F64]:
    reach = high if spec.dtype == "uint8" else np.maximum(-low, high)
    return _normal(reach / spec.quant_max), np.zeros_like(reach)


def _asymmetric(low: F64, high: F64, spec: QuantizerSpec) -> tuple[F64, F64]:
    """The integer zero point next to the exact one that needs the smaller step to cover the range.

    With a short negative tail the nearer one can need a step half as large again as the other.
    """
    steps = spec.quant_max - spec.quant_min
    exact = np.clip(-low / _normal((high - low) / steps), 0, steps)
    zeros = np.clip([np.ceil(exact) - 1.0, np.rint(exact), np.floor(exact) + 1.0], 0, steps)
    scales = _covering(low, high, zeros, steps)
    best = np.argmin(scales, axis=0)[None]
    scale, zero = (np.take_along_axis(table, best, axis=0)[0] for table in (scales, zeros))
    return _normal(scale), zero + spec.quant_min


def _covering(low: F64, high: F64, zero: F64, steps: int) -> F64:
    """The least scale that covers the range with `zero` codes below zero; infinite when none does."""
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.where(low < 0.0, -low / zero, 0.0)
        above = np.where(high > 0.0, high / (steps - zero), 0.0)
    return np.maximum(below, above)


def _normal(scale: F64) -> F64:
    return np.where(scale > _TINY, scale, 1.0)


def quantize(x: NDArray[Any], params: QuantParams, spec: QuantizerSpec) -> NDArray[Any]:
    """Codes of `x`, of the integer type that `spec` names.

    Args:
        x: float array of any shape.
        params: one entry, or one for each kept index.
        spec: form of the quantizer.
    """
    return _codes(x, params, spec).astype(spec.dtype)


def _codes(x: NDArray[Any], params: QuantParams, spec: QuantizerSpec) -> NDArray[Any]:
    """Codes of `x` as floating-point numbers, in one new array: fresh memory costs more than the arithmetic."""
    scale, zero = _shaped(params, spec, x)
    if spec.smooth_axis is not None:
        scale = scale * _factors(params, spec.smooth_axis, x)
    with np.errstate(over="ignore"):  # infinity saturates like any other large number
        codes = np.asarray(x / scale)
    np.rint(codes, out=codes)
    if zero.any():
        codes += zero
    return np.clip(codes, spec.quant_min, spec.quant_max, out=codes)


def weight_codes(quantizer: Quantizer, weight: NDArray[Any], arrays: Arrays) -> NDArray[Any]:
    """The int8 codes of `weight`: the plan's own, or the nearest ones."""
    if quantizer.codes is not None:
        return arrays.get(quantizer.codes)
    return quantize(weight.astype(np.float32), quantizer.params, quantizer.spec)


def dequantize(codes: NDArray[Any], params: QuantParams, spec: QuantizerSpec) -> F32:
    """Real numbers behind `codes`, float32."""
    real = codes.astype(np.float32)
    scale, zero = _shaped(params, spec, codes)
    if spec.smooth_axis is not None:
        scale = scale * _factors(params, spec.smooth_axis, codes)
    if zero.any():
        real -= zero
    real *= scale
    return real


def fake_quantize(x: NDArray[Any], params: QuantParams, spec: QuantizerSpec) -> F32:
    """`x` after quantizing and dequantizing, float32."""
    return dequantize(_codes(x, params, spec), params, spec)


def _shaped(params: QuantParams, spec: QuantizerSpec, like: NDArray[Any]) -> tuple[F32, F32]:
    shape = kept_shape(like.shape, spec.axes)
    scale = np.asarray(params.scale, np.float32).reshape(shape)
    return scale, np.asarray(params.zero_point, np.float32).reshape(shape)


def _factors(params: QuantParams, axis: int, like: NDArray[Any]) -> F32:
    return np.asarray(params.factors, np.float32).reshape(kept_shape(like.shape, (axis,)))


def kept_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with every axis but the kept ones set to 1: the shape in which parameters broadcast."""
    kept = {axis % len(shape) for axis in axes}
    return tuple(size if i in kept else 1 for i, size in enumerate(shape))


def reduced_axes(ndim: int, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that are not kept."""
    kept = {axis % ndim for axis in axes}
    return tuple(i for i in range(ndim) if i not in kept)


def nmse(reference: NDArray[Any], other: NDArray[Any]) -> float:
    """Sum (reference - other)^2 / sum reference^2, in float64; 0 when both are all zero."""
    ref = reference.astype(np.float64, copy=False)
    error = float(np.square(ref - other).sum())
    power = float(np.square(ref).sum())
    if power == 0.0:
        return 0.0 if error == 0.0 else float("inf")
    return error / power


def sqnr(reference: NDArray[Any], other: NDArray[Any]) -> float:
    """Signal to quantization noise ratio in dB: -10 log10(NMSE); infinite for equal arrays."""
    ratio = nmse(reference, other)
    return float("inf") if ratio == 0.0 else float(-10.0 * np.log10(ratio))
