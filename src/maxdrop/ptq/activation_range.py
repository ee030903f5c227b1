"""Scale and zero point of an activation: whose statistics give its range, and which estimator reads them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.graph import OpKind
from maxdrop.data.spec import EstimatorSpec, QuantizerSpec, QuantParams
from maxdrop.data.statistics import TensorStatistics, merge_ranges
from maxdrop.ptq.basis import Basis
from maxdrop.ptq.numerics import params_from_range
from maxdrop.ptq.ranges import get_estimator
from maxdrop.ptq.smooth_quant import smoothed_statistics, with_factors
from maxdrop.ptq.weights import channel_power

F32 = NDArray[np.float32]


def activation_params(basis: Basis, measured: tuple[str, ...], spec: QuantizerSpec, factors: F32 | None) -> QuantParams:
    """Scale and zero point that suit all of these values.

    Args:
        basis: of the plan.
        measured: the values whose statistics give the range.
        spec: form of the quantizer.
        factors: of SmoothQuant, float32 (C,); None where there are none.
    """
    merged = merge_ranges(_by_channel(basis, value, spec) for value in measured)
    if spec.axes:
        return params_from_range(merged.channel_min, merged.channel_max, spec)
    importance = _importance(basis, measured[0]) if len(measured) == 1 else None
    if factors is not None:
        merged = smoothed_statistics(merged, factors)
        importance = None if importance is None else importance * np.square(factors)
    find_range = get_estimator(estimator_of(basis, measured, smoothed=factors is not None), importance)
    params = params_from_range(*find_range(merged, spec), spec)
    return params if factors is None else with_factors(params, factors)


def estimator_of(basis: Basis, measured: tuple[str, ...], *, smoothed: bool = False) -> EstimatorSpec:
    """What the user wants; left to itself the package clips neither what comes from outside nor smoothed images.

    All channels of these reach the ends, at positions that no sampled row may have caught.
    """
    wanted = basis.policy.at(measured).activations.estimator
    if wanted.name != "auto":
        return wanted
    nodes = [node for value in measured for node in basis.int8_readers(value)]
    image = any(node.kind is not OpKind.MATMUL for node in nodes)
    outside = any(basis.is_first_layer(node) for node in nodes)
    return EstimatorSpec(name="minmax") if outside or (smoothed and image) else wanted


def _by_channel(basis: Basis, value: str, spec: QuantizerSpec) -> TensorStatistics:
    """Statistics of `value` with the channels that its quantizer, or its readers, have in common."""
    axes = set(spec.axes) or _summed_axes(basis, value)
    return basis.statistics.along(value, axes.pop()) if len(axes) == 1 else basis.statistics[value]


def _summed_axes(basis: Basis, value: str) -> set[int]:
    """The axes of `value` that its int8 readers sum over."""
    pairs = [
        (node.inputs[index], axis)
        for node in basis.int8_readers(value)
        if node.contraction is not None
        for index, axis in zip(node.contraction.activation_inputs, node.contraction.channel_axes, strict=True)
    ]
    return {axis for read, axis in pairs if read == value}


def _importance(basis: Basis, value: str) -> NDArray[np.float64] | None:
    """Energy of the weights that read each channel of `value`, float64 (C,); None where it has none."""
    readers = basis.int8_readers(value)

    def make() -> NDArray[np.float64] | None:
        powers = [
            channel_power(basis.graph.constant(node.inputs[node.contraction.weight_input]), node.contraction)
            for node in readers
            if node.contraction is not None and node.contraction.weight_input is not None
        ]
        sizes = {len(power) for power in powers}
        return np.sum(powers, axis=0) if len(sizes) == len(_summed_axes(basis, value)) == 1 else None

    return basis.remember(("importance", value, tuple(node.name for node in readers)), make)
