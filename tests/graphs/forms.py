"""Element types, dynamic shapes and names."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

from tests.graphs.case import Case
from tests.graphs.layers import (
    add_bias,
    const,
    conv,
    depthwise,
    heads,
    ints,
    joined,
    linear,
    matmul,
    model,
    named,
    normal,
    parameter,
)  # fmt: skip

IMAGE = (1, 8, 8, 8)
TOKENS = (1, 12, 32)


def compressed_weights() -> ov.Model:
    x = parameter(IMAGE)
    y = x
    for name in ("c1", "c2"):
        stored = const(normal(name, 8, 8, 3, 3, scale=0.12), np.float16)
        y = op.relu(add_bias(conv(y, 8, name, weight=op.convert(stored, "f32"), bias=False), 8, name))
    return model([linear(op.reduce_mean(y, ints(2, 3), False), 4, "fc")], [x])


def rearranged_weights() -> ov.Model:
    x = parameter(IMAGE)
    flat = op.reshape(const(normal("c1", 8, 72, scale=0.12)), ints(8, 8, 3, 3), False)
    y = op.relu(conv(x, 8, "c1", weight=flat))
    turned = op.transpose(const(normal("c2", 3, 3, 8, 8, scale=0.12)), ints(3, 2, 0, 1))
    return model([conv(y, 8, "c2", weight=turned)], [x])


def _float16(data: Any) -> Any:
    return const(data, np.float16)


def float16_model() -> ov.Model:
    x = parameter(IMAGE, dtype=np.float16)
    y = conv(x, 8, "c1", weight=_float16(normal("c1", 8, 8, 3, 3, scale=0.12)), bias=False)
    y = op.relu(op.add(y, _float16(normal("bias", 1, 8, 1, 1, scale=0.1))))
    return model([conv(y, 8, "c2", weight=_float16(normal("c2", 8, 8, 3, 3, scale=1e-5)), bias=False)], [x])


def float64_model() -> ov.Model:
    x = parameter(TOKENS, dtype=np.float64)
    y = op.relu(matmul(x, const(normal("a", 32, 32, scale=0.2), np.float64), "a"))
    return model([matmul(y, const(normal("b", 32, 16, scale=0.2), np.float64), "b")], [x])


def bfloat16_model() -> ov.Model:
    x = parameter(TOKENS)
    weights = [op.constant(normal(name, 32, 32, scale=0.2), dtype=ov.Type.bf16) for name in ("a", "b")]
    y = op.relu(matmul(op.convert(x, "bf16"), weights[0], "a"))
    return model([op.convert(matmul(y, weights[1], "b"), "f32")], [x])


def dynamic_batch() -> ov.Model:
    x = parameter((-1, 8, 8, 8))
    y = op.relu(conv(x, 8, "c1"))
    return model([conv(y, 8, "c2")], [x])


def dynamic_image() -> ov.Model:
    x = parameter((1, 8, -1, -1))
    y = op.relu(depthwise(op.relu(conv(x, 8, "c1")), "dw"))
    return model([conv(y, 8, "c2", kernel=1)], [x])


def dynamic_sequence() -> ov.Model:
    x = parameter((-1, -1, 32))
    q, k, v = (heads(linear(x, 32, name), 4) for name in ("q", "k", "v"))
    scores = op.softmax(op.multiply(matmul(q, k, "qk", transpose_b=True), const(8**-0.5)), -1)
    return model([linear(joined(matmul(scores, v, "pv"), 32), 32, "o")], [x])


def shape_driven_reshape() -> ov.Model:
    x = parameter((-1, 8, -1, -1))
    y = op.relu(conv(x, 8, "c1"))
    shape = op.shape_of(y)
    target = op.concat([op.gather(shape, ints(0), ints(0)), ints(8), ints(-1)], 0)
    tokens = op.transpose(op.reshape(y, target, False), ints(0, 2, 1))
    return model([linear(tokens, 16, "fc")], [x])


def shape_driven_pad() -> ov.Model:
    x = parameter((1, 8, -1, -1))
    y = op.relu(conv(x, 8, "c1"))
    size = op.gather(op.shape_of(x), ints(2, 3), op.constant(np.int64(0)))
    ends = op.concat([ints(0, 0), op.mod(size, ints(4, 4))], 0)
    padded = op.pad(y, ints(0, 0, 0, 0), ends, "constant", const(0.0))
    return model([conv(padded, 8, "c2")], [x])


def duplicate_names() -> ov.Model:
    x = parameter(IMAGE)
    y = x
    for i in range(3):
        y = op.relu(conv(y, 8, f"c{i}", bias=False))
        y.input_value(0).get_node().set_friendly_name("same")
    return model([y], [x])


def names_like_values() -> ov.Model:
    """A node whose name is what the second output of another would be called."""
    x = parameter(IMAGE)
    parts = op.split(x, op.constant(np.int64(1)), 2)
    parts.set_friendly_name("s")
    y = named(op.relu(conv(parts.output(0), 8, "c1")), "s:1")
    return model([conv(y, 8, "c2"), conv(parts.output(1), 8, "c3")], [x])


def unreachable_reader() -> ov.Model:
    x = parameter(IMAGE)
    y = op.relu(conv(x, 8, "c1"))
    made = model([conv(y, 8, "c2")], [x])
    _KEPT_ALIVE.append(op.sigmoid(y))
    return made


_KEPT_ALIVE: list[Any] = []


def _with(*shape: int, dtype: Any = np.float32) -> Any:
    return lambda random: random.standard_normal(shape).astype(dtype)


def _varying(*shapes: tuple[int, ...]) -> Any:
    return lambda random: random.standard_normal(shapes[random.integers(len(shapes))]).astype(np.float32)


_PRODUCTS = {"qk": "product of two activations", "pv": "product of two activations"}
_F64 = {"a": "float64", "b": "float64"}
_BF16 = {"a": "bfloat16", "b": "bfloat16"}
CASES = [
    Case(compressed_weights, "c1 c2", "fc"),
    Case(rearranged_weights, "c1 c2"),
    Case(float16_model, "c1 c2", sample=_with(*IMAGE, dtype=np.float16)),
    Case(float64_model, sample=_with(*TOKENS, dtype=np.float64), reasons=_F64, reasons_all=_F64),
    Case(bfloat16_model, reasons=_BF16, reasons_all=_BF16),
    Case(dynamic_batch, "c1 c2", sample=_varying((1, 8, 8, 8), (3, 8, 8, 8))),
    Case(
        dynamic_image,
        "c1 c2",
        "dw",
        sample=_varying((1, 8, 8, 8), (1, 8, 6, 10)),
        reasons={"dw": "depthwise"},
        floor=20,
    ),
    Case(dynamic_sequence, "q k v o", "qk pv", "qk pv", sample=_varying((1, 12, 32), (2, 7, 32)), reasons=_PRODUCTS),
    Case(shape_driven_reshape, "c1 fc", sample=_varying((1, 8, 8, 8), (2, 8, 6, 10))),
    Case(shape_driven_pad, "c1 c2", sample=_varying((1, 8, 8, 8), (1, 8, 6, 7))),
    Case(duplicate_names, "same same#1 same#2"),
    Case(names_like_values, "c1 c2 c3"),
    Case(unreachable_reader, "c1 c2"),
]
