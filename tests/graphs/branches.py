"""Values with several readers, and values made of several others."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

from tests.graphs.case import Case
from tests.graphs.layers import const, conv, gate, ints, linear, model, normal, parameter

IMAGE = (1, 8, 8, 8)


def residual_chain() -> ov.Model:
    x = parameter(IMAGE)
    y = op.relu(conv(x, 8, "c0"))
    for i in (1, 3):
        inner = conv(op.relu(conv(y, 8, f"c{i}")), 8, f"c{i + 1}")
        y = op.relu(op.add(inner, y))
    return model([y], [x])


def _gated(squeeze: Any, inner: Any) -> ov.Model:
    x = parameter((1, 8, 8, 8))
    y = op.swish(conv(x, 16, "c1"))
    return model([conv(gate(y, squeeze(y), inner, "se"), 16, "c2")], [x])


def squeeze_excite_mean_swish() -> ov.Model:
    return _gated(lambda y: op.reduce_mean(y, ints(2, 3), True), op.swish)


def squeeze_excite_mean_relu() -> ov.Model:
    return _gated(lambda y: op.reduce_mean(y, ints(2, 3), True), op.relu)


def squeeze_excite_pool_relu() -> ov.Model:
    return _gated(lambda y: op.avg_pool(y, [1, 1], [0, 0], [0, 0], [8, 8], True), op.relu)


def squeeze_excite_pool_swish() -> ov.Model:
    return _gated(lambda y: op.avg_pool(y, [1, 1], [0, 0], [0, 0], [8, 8], True), op.swish)


def squeeze_excite_linear() -> ov.Model:
    x = parameter(IMAGE)
    y = op.relu(conv(x, 16, "c1"))
    flat = op.reshape(op.reduce_mean(y, ints(2, 3), False), ints(1, 16), False)
    weights = op.sigmoid(linear(op.relu(linear(flat, 4, "se/reduce")), 16, "se/expand"))
    y = op.multiply(y, op.reshape(weights, ints(1, 16, 1, 1), False))
    return model([conv(y, 16, "c2")], [x])


def _concat(second: float) -> ov.Model:
    x = parameter(IMAGE)
    a = op.relu(conv(x, 8, "a"))
    b = op.relu(op.multiply(conv(x, 8, "b"), const(second)))
    a.set_friendly_name("ra")
    b.set_friendly_name("rb")
    return model([conv(op.concat([a, b], 1), 8, "c")], [x])


def concat_shares() -> ov.Model:
    return _concat(1.5)


def concat_different_ranges() -> ov.Model:
    return _concat(100.0)


def concat_float_reader() -> ov.Model:
    x = parameter(IMAGE)
    joined = op.concat([op.relu(conv(x, 8, "a")), op.relu(conv(x, 8, "b"))], 1)
    return model([conv(joined, 8, "c"), op.sigmoid(joined)], [x])


def concat_with_input() -> ov.Model:
    x = parameter(IMAGE)
    return model([conv(op.concat([x, conv(x, 8, "a")], 1), 8, "c")], [x])


def concat_with_constant() -> ov.Model:
    x = parameter(IMAGE)
    fixed = const(normal("fixed", 1, 2, 8, 8))
    return model([conv(op.concat([op.relu(conv(x, 8, "a")), fixed], 1), 8, "c")], [x])


def concat_of_concats() -> ov.Model:
    x = parameter(IMAGE)
    y = op.relu(conv(x, 8, "c0"))
    for i in range(1, 4):
        y = op.concat([y, op.relu(conv(y, 8, f"c{i}"))], 1)
    return model([conv(y, 8, "c4", kernel=1)], [x])


def concat_along_batch() -> ov.Model:
    x, y = parameter(IMAGE), parameter((2, 8, 8, 8), "y")
    joined = op.concat([op.relu(conv(x, 8, "a")), op.relu(conv(y, 8, "b"))], 0)
    return model([conv(joined, 8, "c")], [x, y])


def split() -> ov.Model:
    x = parameter(IMAGE)
    parts = (
        op.split(op.relu(conv(x, 16, "c0")), ints(1).output(0).get_node().output(0), 2)
        if False
        else op.split(op.relu(conv(x, 16, "c0")), op.constant(np.int64(1)), 2)
    )
    return model([conv(parts.output(0), 8, "c1"), conv(parts.output(1), 8, "c2")], [x])


def variadic_split() -> ov.Model:
    x = parameter(IMAGE)
    parts = op.variadic_split(op.relu(conv(x, 16, "c0")), op.constant(np.int64(1)), ints(4, 12))
    return model([conv(parts.output(0), 8, "c1"), conv(parts.output(1), 8, "c2")], [x])


def split_float_reader() -> ov.Model:
    x = parameter(IMAGE)
    parts = op.split(op.relu(conv(x, 16, "c0")), op.constant(np.int64(1)), 2)
    return model([conv(parts.output(0), 8, "c1"), op.sigmoid(parts.output(1))], [x])


def shuffle_channels() -> ov.Model:
    x = parameter(IMAGE)
    y = op.relu(conv(x, 16, "c0"))
    parts = op.split(y, op.constant(np.int64(1)), 2)
    joined = op.concat([parts.output(0), op.relu(conv(parts.output(1), 8, "c1"))], 1)
    shuffled = op.reshape(
        op.transpose(op.reshape(joined, ints(1, 2, 8, 8, 8), False), ints(0, 2, 1, 3, 4)), ints(1, 16, 8, 8), False
    )
    return model([conv(shuffled, 8, "c2")], [x])


def shared_weights_conv() -> ov.Model:
    x = parameter(IMAGE)
    weight = const(normal("shared", 8, 8, 3, 3, scale=0.12))
    y = op.relu(conv(x, 8, "c1", weight=weight))
    return model([conv(y, 8, "c2", weight=weight)], [x])


def pyramid() -> ov.Model:
    x = parameter(IMAGE)
    deep = op.relu(conv(x, 8, "c1", stride=2))
    up = op.interpolate(deep, ints(8, 8), "nearest", "sizes", axes=ints(2, 3))
    return model([conv(op.add(conv(x, 8, "c2"), up), 8, "c3"), conv(deep, 8, "c4")], [x])


def several_inputs_and_outputs() -> ov.Model:
    x, y = parameter(IMAGE), parameter((1, 16), "y")
    a = op.relu(conv(x, 8, "c1"))
    b = linear(op.reshape(op.reduce_mean(a, ints(2, 3), True), ints(1, 8), False), 16, "fc")
    return model([conv(a, 8, "c2"), op.add(b, y), a], [x, y])


def output_read_by_conv() -> ov.Model:
    x = parameter(IMAGE)
    y = conv(x, 8, "c1", bias=False)
    return model([y, conv(y, 8, "c2", bias=False)], [x])


def pooled_and_direct_readers() -> ov.Model:
    x = parameter(IMAGE)
    y = op.relu(conv(x, 8, "c1"))
    pooled = op.max_pool(y, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)
    return model([conv(y, 8, "c2"), conv(pooled, 8, "c3"), op.sigmoid(y)], [x])


def conv_and_linear_readers() -> ov.Model:
    """One value, read along axis 1 by a convolution and along the last by a matrix product of the same width."""
    x = parameter((1, 8, 8))
    y = op.relu(conv(op.multiply(x, const(np.linspace(0.2, 3, 8).reshape(8, 1))), 8, "c1"))
    return model([conv(y, 8, "c2"), linear(y, 8, "fc")], [x])


def tokens_of_image() -> ov.Model:
    """The same value as an image and, reshaped, as a table of tokens."""
    x = parameter(IMAGE)
    y = op.relu(conv(x, 8, "c1"))
    tokens = op.reshape(op.transpose(y, ints(0, 2, 3, 1)), ints(64, 8), False)
    return model([conv(y, 8, "c2"), linear(tokens, 8, "fc")], [x])


_GATE = {"se/reduce": "squeeze-excite", "se/expand": "squeeze-excite"}
_SE = "se/reduce se/expand"
CASES = [
    Case(residual_chain, "c0 c1 c2 c3 c4"),
    Case(squeeze_excite_mean_swish, "c1 c2", _SE, reasons=_GATE),
    Case(squeeze_excite_mean_relu, "c1 c2", _SE, reasons=_GATE),
    Case(squeeze_excite_pool_relu, "c1 c2", _SE, reasons=_GATE),
    Case(squeeze_excite_pool_swish, "c1 c2", _SE, reasons=_GATE),
    Case(squeeze_excite_linear, "c1 c2", _SE, reasons=_GATE),
    Case(concat_shares, "a b c"),
    Case(concat_different_ranges, "a b c"),
    Case(concat_float_reader, "a b c"),
    Case(concat_with_input, "a c"),
    Case(concat_with_constant, "a", reasons={"c": "constant"}, reasons_all={"c": "constant"}),
    Case(concat_of_concats, "c0 c1 c2 c3 c4"),
    Case(concat_along_batch, "a b c"),
    Case(split, "c0 c1 c2"),
    Case(variadic_split, "c0 c1 c2"),
    Case(split_float_reader, "c0 c1"),
    Case(shuffle_channels, "c0 c1 c2"),
    Case(shared_weights_conv, "c1 c2"),
    Case(pyramid, "c1 c2 c3 c4", floor=17, floor_all=23),
    Case(several_inputs_and_outputs, "c1 c2 fc"),
    Case(output_read_by_conv, "c1 c2"),
    Case(pooled_and_direct_readers, "c1 c2 c3"),
    Case(conv_and_linear_readers, "c1 c2 fc", floor=22),
    Case(tokens_of_image, "c1 c2 fc"),
]
