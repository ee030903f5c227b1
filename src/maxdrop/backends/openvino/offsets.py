"""Zero points of matrix products, moved into the bias, where they cost nothing.

An asymmetric activation is scale * (code - zero). If the quantizer yields scale * code instead, each output of the
product is off by a constant: by the lowest value of the range times the sum of the weights over the input. The runtime
executes a product whose input has a zero point in a slower kernel; a constant added to the bias is free. Convolutions
keep their zero points: their kernels make up for them, at padded borders too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from maxdrop.backends.openvino.kinds import KINDS
from maxdrop.data.graph import OpKind
from maxdrop.data.plan import QuantizationPlan, Quantizer
from maxdrop.ptq.numerics import kept_shape

F32 = NDArray[np.float32]

_MOVE = frozenset({OpKind.LAYOUT, OpKind.MAX_POOL, OpKind.SLICE, OpKind.SPLIT, OpKind.GATHER})
"""Kinds that return nothing but values that they read; Pad adds zeros, and the branches of Concat are of a group."""


def offset_quantizers(plan: QuantizationPlan, nodes: Mapping[str, Any], absorbing: set[str]) -> dict[str, float]:
    """The activation quantizers that may yield values from 0 on: by id, the lowest value of their range.

    Everything that computes with such a value is a product with stored weights, whose bias can take the constant.

    Args:
        plan: of the model.
        nodes: of the model, by name.
        absorbing: ops whose weights hold the factors of a smoothing quantizer.
    """
    int8 = set(plan.int8_ops)
    products = {
        use.node
        for q in plan.quantizers
        if q.constant and len(q.uses) == 1
        for use in q.uses
        if use.node in int8 and _is_plain_product(nodes[use.node])
    }
    found = {}
    for quantizer in plan.quantizers:
        spec, params = quantizer.spec, quantizer.params
        served = {use.node for use in quantizer.serves if use.index == 0}
        if quantizer.constant or spec.axes or params.zero_point == (0,) or not served <= products:
            continue
        only_these = all(_ends_in(served, nodes[use.node], use.index) for use in quantizer.uses)
        if only_these and (not params.factors or served <= absorbing):
            found[quantizer.id] = (spec.quant_min - params.zero_point[0]) * params.scale[0]
    return found


def _ends_in(ops: set[str], node: Any, index: int) -> bool:
    """Whether input `index` of `node` goes nowhere but to the first inputs of `ops`, through ops that move values."""
    if index != 0:
        return False
    if node.get_type_name() == "MatMul":
        return node.get_friendly_name() in ops
    readers = [r for output in node.outputs() for r in output.get_target_inputs()]
    numeric = [r for r in readers if r.get_node().get_type_name() != "ShapeOf"]
    return KINDS.get(node.get_type_name()) in _MOVE and all(_ends_in(ops, r.get_node(), r.get_index()) for r in numeric)


def offset_shift(weight: Quantizer, codes: NDArray[np.int8], node: Any, low: float) -> F32:
    """What the bias of a product has to make up for, float32 (output channels,).

    Args:
        weight: quantizer of the weights.
        codes: of the weights, (inputs, outputs), or (outputs, inputs) where the product transposes them.
        node: the product.
        low: lowest value of the range of its input.
    """
    scale = np.asarray(weight.params.scale, np.float64).reshape(kept_shape(codes.shape, weight.spec.axes))
    inputs = 1 if node.get_attributes()["transpose_b"] else 0
    return np.asarray(low * (codes * scale).sum(axis=inputs), np.float32)


def _is_plain_product(node: Any) -> bool:
    """Whether `node` multiplies float32 rows by a matrix."""
    return bool(
        node.get_type_name() == "MatMul"
        and not node.get_attributes()["transpose_a"]
        and node.input_value(1).get_partial_shape().rank == 2
        and node.output(0).get_partial_shape().rank.is_static
        and node.get_output_element_type(0) == ov.Type.f32
    )
