"""Chains of convolutions with what stands between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

from tests.graphs.case import Case
from tests.graphs.layers import (
    add_bias,
    channels,
    const,
    conv,
    depthwise,
    grouped,
    ints,
    model,
    named,
    normal,
    parameter,
)  # fmt: skip

IMAGE = (1, 8, 8, 8)


def _between(middle: Callable[[Any], Any]) -> ov.Model:
    x = parameter(IMAGE)
    return model([conv(middle(conv(x, 16, "c1")), 16, "c2")], [x])


def conv_relu_chain() -> ov.Model:
    x = parameter(IMAGE)
    y = op.relu(conv(x, 16, "c1"))
    return model([conv(op.relu(conv(y, 16, "c2", stride=2)), 16, "c3")], [x])


def conv_without_bias() -> ov.Model:
    x = parameter(IMAGE)
    return model([conv(conv(x, 16, "c1", bias=False), 8, "c2", bias=False)], [x])


def unfused_batch_norm() -> ov.Model:
    x = parameter(IMAGE)
    y = x
    for name in ("c1", "c2"):
        y = conv(y, 16, name, bias=False)
        factors = 1 + normal(f"{name}/factor", 1, 16, 1, 1, scale=0.2)
        y = op.relu(add_bias(op.multiply(y, const(factors)), 16, name))
    return model([y], [x])


def batch_norm_op() -> ov.Model:
    x = parameter(IMAGE)
    y = conv(x, 16, "c1", bias=False)
    parts = [const(normal(f"bn{i}", 16, scale=0.1) + shift) for i, shift in enumerate((1, 0, 0, 1))]
    y = op.relu(op.batch_norm_inference(y, *parts, epsilon=1e-5))
    return model([conv(y, 16, "c2")], [x])


def conv_swish() -> ov.Model:
    return _between(op.swish)


def conv_decomposed_swish() -> ov.Model:
    return _between(lambda y: op.multiply(y, op.sigmoid(y)))


def conv_hswish() -> ov.Model:
    return _between(op.hswish)


def conv_clamp() -> ov.Model:
    return _between(lambda y: op.clamp(y, 0.0, 6.0))


def conv_prelu() -> ov.Model:
    return _between(lambda y: op.prelu(y, const(np.abs(normal("slope", 16, scale=0.2)))))


def conv_sigmoid() -> ov.Model:
    return _between(op.sigmoid)


def conv_gelu() -> ov.Model:
    return _between(lambda y: op.gelu(y, "erf"))


def max_pool() -> ov.Model:
    return _between(lambda y: op.max_pool(op.relu(y), [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0))


def average_pool() -> ov.Model:
    return _between(lambda y: op.avg_pool(op.relu(y), [2, 2], [0, 0], [0, 0], [2, 2], True))


def _pad(y: Any, mode: str, value: float = 0.0) -> Any:
    return op.pad(y, ints(0, 0, 1, 1), ints(0, 0, 1, 1), mode, const(value) if mode == "constant" else None)


def pad_zero() -> ov.Model:
    return _between(lambda y: _pad(op.relu(y), "constant"))


def pad_nonzero() -> ov.Model:
    return _between(lambda y: _pad(op.relu(y), "constant", 9.0))


def pad_reflect() -> ov.Model:
    return _between(lambda y: _pad(op.relu(y), "reflect"))


def strided_slice() -> ov.Model:
    return _between(
        lambda y: op.strided_slice(y, ints(0, 0, 1, 0), ints(0, 0, 7, 0), ints(1, 1, 2, 1), [1, 1, 0, 1], [1, 1, 0, 1])
    )


def slice_channels() -> ov.Model:
    return _between(lambda y: op.slice(op.relu(y), ints(2), ints(14), ints(1), ints(1)))


def transpose_and_reshape() -> ov.Model:
    def middle(y: Any) -> Any:
        flat = op.reshape(op.relu(y), ints(1, 16, 64), False)
        return op.reshape(op.transpose(op.transpose(flat, ints(0, 2, 1)), ints(0, 2, 1)), ints(1, 16, 8, 8), False)

    return _between(middle)


def depthwise_pointwise() -> ov.Model:
    x = parameter(IMAGE)
    y = op.relu(conv(x, 16, "c1"))
    y = op.relu(depthwise(y, "dw"))
    return model([conv(y, 16, "c2", kernel=1)], [x])


def grouped_conv() -> ov.Model:
    x = parameter(IMAGE)
    y = op.relu(conv(x, 32, "c1"))
    y = op.relu(grouped(y, 32, 2, "g"))
    return model([conv(y, 16, "c2", kernel=1)], [x])


def transposed_conv() -> ov.Model:
    x = parameter(IMAGE)
    y = op.relu(conv(x, 16, "c1"))
    weight = const(normal("t", 16, 8, 2, 2, scale=0.2))
    y = named(op.convolution_backprop_data(y, weight, [2, 2]), "t")
    return model([conv(op.relu(add_bias(y, 8, "t")), 8, "c2")], [x])


def transposed_grouped_conv() -> ov.Model:
    x = parameter(IMAGE)
    y = op.relu(conv(x, 16, "c1"))
    weight = const(normal("t", 2, 8, 8, 2, 2, scale=0.2))
    y = named(op.group_convolution_backprop_data(y, weight, [2, 2], pads_begin=[0, 0], pads_end=[0, 0]), "t")
    return model([conv(op.relu(add_bias(y, 16, "t")), 8, "c2")], [x])


def transposed_depthwise_conv() -> ov.Model:
    x = parameter(IMAGE)
    y = op.relu(conv(x, 16, "c1"))
    weight = const(normal("t", 16, 1, 1, 2, 2, scale=0.5))
    y = named(op.group_convolution_backprop_data(y, weight, [2, 2], pads_begin=[0, 0], pads_end=[0, 0]), "t")
    return model([conv(op.relu(add_bias(y, 16, "t")), 8, "c2")], [x])


def conv_1d() -> ov.Model:
    x = parameter((1, 8, 32))
    return model([conv(op.relu(conv(x, 16, "c1")), 16, "c2")], [x])


def conv_3d() -> ov.Model:
    x = parameter((1, 4, 6, 6, 6))
    return model([conv(op.relu(conv(x, 8, "c1")), 8, "c2")], [x])


def dilated_conv() -> ov.Model:
    x = parameter(IMAGE)
    y = op.relu(conv(x, 16, "c1"))
    weight = const(normal("c2", 16, 16, 3, 3, scale=0.1))
    return model([named(op.convolution(y, weight, [1, 1], [2, 2], [2, 2], [2, 2]), "c2")], [x])


def zero_weight_channel() -> ov.Model:
    x = parameter(IMAGE)
    weight = normal("c1", 16, 8, 3, 3, scale=0.1)
    weight[3] = 0
    return model([conv(op.relu(conv(x, 16, "c1", weight=const(weight))), 8, "c2")], [x])


def tiny_weights() -> ov.Model:
    x = parameter(IMAGE)
    weight = normal("c1", 16, 8, 3, 3, scale=1e-9)
    y = op.multiply(conv(x, 16, "c1", weight=const(weight), bias=False), const(1e9))
    return model([conv(op.relu(y), 8, "c2")], [x])


def runtime_weight() -> ov.Model:
    x, w = parameter(IMAGE), parameter((8, 8, 3, 3), "w")
    y = op.relu(conv(x, 8, "c1"))
    return model([named(op.convolution(y, w, [1, 1], [1, 1], [1, 1], [1, 1]), "c2")], [x, w])


def single_channel_image() -> ov.Model:
    x = parameter((1, 1, 16, 16))
    y = op.relu(conv(x, 16, "c1", stride=2))
    return model([conv(y, channels(y), "c2")], [x])


_TWO = "c1 c2"
_GROUPED = {"t": "grouped transposed"}
CASES = [
    Case(conv_relu_chain, "c1 c2 c3"),
    Case(conv_without_bias, _TWO),
    Case(unfused_batch_norm, _TWO),
    Case(batch_norm_op, _TWO),
    Case(conv_swish, _TWO),
    Case(conv_decomposed_swish, _TWO),
    Case(conv_hswish, _TWO),
    Case(conv_clamp, _TWO),
    Case(conv_prelu, _TWO),
    Case(conv_sigmoid, _TWO),
    Case(conv_gelu, _TWO),
    Case(max_pool, _TWO),
    Case(average_pool, _TWO),
    Case(pad_zero, _TWO),
    Case(pad_nonzero, _TWO),
    Case(pad_reflect, _TWO),
    Case(strided_slice, _TWO),
    Case(slice_channels, _TWO),
    Case(transpose_and_reshape, _TWO),
    Case(depthwise_pointwise, _TWO, "dw", reasons={"dw": "depthwise"}),
    Case(grouped_conv, _TWO, "g", reasons={"g": "grouped"}),
    Case(transposed_conv, "c1 t c2"),
    Case(transposed_grouped_conv, _TWO, reasons=_GROUPED, reasons_all=_GROUPED),
    Case(transposed_depthwise_conv, _TWO, reasons=_GROUPED, reasons_all=_GROUPED),
    Case(conv_1d, _TWO),
    Case(conv_3d, _TWO),
    Case(dilated_conv, _TWO),
    Case(zero_weight_channel, _TWO),
    Case(tiny_weights, _TWO),
    Case(runtime_weight, "c1", reasons={"c2": "not a constant"}, reasons_all={"c2": "not a constant"}),
    Case(single_channel_image, _TWO),
]
