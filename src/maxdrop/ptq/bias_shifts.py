"""The bias shifts of a plan: measured ones where there are any, those of the closed form for the other ops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.plan import BiasShift, Quantizer
from maxdrop.ptq.basis import Basis
from maxdrop.ptq.bias_correction import closed_form_shift, relative_shift
from maxdrop.ptq.numerics import dequantize, weight_codes
from maxdrop.ptq.weight_quantizers import rounding_of, weight_quantizer

F32 = NDArray[np.float32]


def bias_shifts(
    basis: Basis, int8: Iterable[str], activations: Mapping[str, Quantizer], measured: Mapping[str, F32]
) -> list[BiasShift]:
    """The shifts that the user wants and that are not 0.

    Args:
        basis: of the plan.
        int8: ops that are int8 in it.
        activations: by op, the quantizer that it reads.
        measured: float32 (output channels,) by op; the other ops get theirs by the closed form.
    """
    if not basis.policy.bias_correction:
        return []
    shifts = (_bias_shift(basis, op, activations[op], measured.get(op)) for op in int8)
    return [shift for shift in shifts if shift is not None]


def _bias_shift(basis: Basis, op: str, activation: Quantizer, measured: F32 | None) -> BiasShift | None:
    shift, reason = measured, "mean error of the output, measured"
    if shift is None:
        node = basis.graph.node(op)
        weight = (basis.weight_spec(node), basis.policy.weights.estimator, rounding_of(basis, node))
        key = ("shift", op, activation.spec, activation.params, weight)
        shift = basis.remember(key, lambda: _closed_form_shift(basis, op, activation))
        reason = "mean quantization error of the output"
    if shift is None or not shift.any() or _is_excessive(basis, op, shift):
        return None
    return BiasShift(op=op, shift=basis.arrays.put(shift), reason=reason)


def _closed_form_shift(basis: Basis, op: str, activation: Quantizer) -> F32 | None:
    node = basis.graph.node(op)
    quantizer = weight_quantizer(basis, op, activation)
    if node.contraction is None or quantizer is None:
        return None
    weight, seen = basis.graph.constant(quantizer.value), basis.input_statistics(node)
    quantized = dequantize(weight_codes(quantizer, weight, basis.arrays), quantizer.params, quantizer.spec)
    return closed_form_shift(weight, quantized, node.contraction, seen, activation)


def _is_excessive(basis: Basis, op: str, shift: F32) -> bool:
    """Whether the user's threshold forbids the shift."""
    limit, node = basis.policy.bias_correction_threshold, basis.graph.node(op)
    if limit is None or node.contraction is None or node.contraction.weight_input is None:
        return False
    weight = basis.graph.constant(node.inputs[node.contraction.weight_input])
    return relative_shift(shift, weight, node.contraction, basis.input_statistics(node)) > limit
