"""What OpenVINO's convolutions and matrix products multiply and sum, and how much work that is."""

from __future__ import annotations

from math import prod
from typing import Any

from maxdrop.backends.openvino.masks import masked_product
from maxdrop.data.graph import Contraction

_CONVOLUTIONS = {
    # type: (axes of the output channels, axis of the input channels, axis of the groups)
    "Convolution": ((0,), 1, None),
    "GroupConvolution": ((0, 1), 2, 0),
    "ConvolutionBackpropData": ((1,), 0, None),
    "GroupConvolutionBackpropData": ((0, 2), 1, 0),
}

Shapes = list[tuple[int, ...]]


def _size(dimension: Any) -> int:
    """A size, 1 where it is unknown."""
    return 1 if dimension.is_dynamic else int(dimension.get_length())


def contraction_of(native: Any, constant: list[bool]) -> tuple[Contraction | None, dict[str, Any]]:
    """How `native` multiplies and sums, and attributes that decisions need.

    Args:
        native: an OpenVINO node.
        constant: for each input, whether it depends on constants only.
    """
    kind = native.get_type_name()
    if kind in _CONVOLUTIONS:
        return _convolution(native, kind, constant)
    if kind == "MatMul":
        return _matmul(native, constant)
    return None, {}


def _convolution(native: Any, kind: str, constant: list[bool]) -> tuple[Contraction | None, dict[str, Any]]:
    weight_axes, channel_axis, group_axis = _CONVOLUTIONS[kind]
    shape = native.get_input_partial_shape(1)
    if not constant[1] or shape.is_dynamic:
        contraction = Contraction((0, 1), (1, channel_axis), None)
        return contraction, {"float_only": "its weight is not a constant"}
    sizes = list(shape.to_shape())
    groups = sizes[group_axis] if group_axis is not None else 1
    contraction = Contraction((0,), (1,), 1, weight_axes, channel_axis, 1, groups)
    if kind == "GroupConvolutionBackpropData":
        return contraction, {"float_only": "grouped transposed convolution: the runtime has no int8 kernel for it"}
    return contraction, {"group_inputs": sizes[channel_axis]}


def _matmul(native: Any, constant: list[bool]) -> tuple[Contraction | None, dict[str, Any]]:
    attributes = native.get_attributes()
    left_axis = -2 if attributes.get("transpose_a") else -1
    right_axis = -1 if attributes.get("transpose_b") else -2
    ranks = [native.get_input_partial_shape(i).rank for i in (0, 1)]
    if any(rank.is_dynamic for rank in ranks):
        return Contraction((0, 1), (left_axis, right_axis), None), {"float_only": "an operand has unknown rank"}
    if not constant[1]:
        both = Contraction((0, 1), (left_axis, right_axis), None)
        left = {"float_only": "its left operand is a constant"} if constant[0] else {}
        short = {"float_only": "an operand is a vector"} if min(r.get_length() for r in ranks) < 2 else {}
        return both, {**left, **short, **masked_product(native)}
    sizes = list(native.get_input_shape(1))
    if len(sizes) < 2 or prod(sizes[:-2]) != 1:
        contraction = Contraction((0,), (left_axis,), 1, (), right_axis % max(len(sizes), 1), -1)
        return contraction, {"float_only": "its weight is a vector, or differs along the batch"}
    if ranks[0].get_length() < 2:
        return Contraction((0,), (-1,), 1, (), right_axis, -1), {"float_only": "its input is a vector"}
    channel_axis = right_axis % len(sizes)
    output_axis = len(sizes) - 1 if channel_axis == len(sizes) - 2 else len(sizes) - 2
    return Contraction((0,), (left_axis,), 1, (output_axis,), channel_axis, -1), {}


def macs_of(native: Any, contraction: Contraction | None, shapes: Shapes) -> int:
    """Multiply-accumulates of one inference, given the node's concrete output sizes."""
    kind = native.get_type_name()
    if any(native.get_input_partial_shape(i).rank.is_dynamic for i in range(native.get_input_size())):
        return 0
    if kind in _CONVOLUTIONS and contraction is not None:
        return _convolution_macs(native, kind, shapes)
    if kind == "MatMul" and contraction is not None:
        axis = contraction.channel_axes[0]
        size = native.get_input_partial_shape(0)[axis]
        other = native.get_input_partial_shape(1)
        weight_axis = contraction.channel_axes[1] if contraction.weight_input is None else None
        if size.is_dynamic and weight_axis is None:
            size = other[contraction.weight_channel_axis]
        return prod(shapes[0]) * _size(size)
    if kind == "ScaledDotProductAttention":
        width = native.get_input_partial_shape(0)[-1]
        length = shapes[0][-2]
        return 2 * prod(shapes[0][:-1]) * length * _size(width)
    return 0


def _convolution_macs(native: Any, kind: str, shapes: Shapes) -> int:
    shape = native.get_input_partial_shape(1)
    if shape.is_dynamic:
        return 0
    weight = list(shape.to_shape())
    axes, _, _ = _CONVOLUTIONS[kind]
    outputs = prod(weight[axis] for axis in axes)
    if "Backprop" in kind:
        # every input pixel meets the whole kernel
        data = native.get_input_partial_shape(0)
        pixels = prod(_size(s) for i, s in enumerate(data) if i != 1)
        return int(pixels * prod(weight))
    return int(prod(shapes[0]) * prod(weight) // max(outputs, 1))
