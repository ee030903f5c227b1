"""States, recurrent cells, bodies, and odd data."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

from tests.graphs.case import Case
from tests.graphs.layers import (
    const,
    conv,
    depthwise,
    ints,
    linear,
    model,
    named,
    normal,
    parameter,
)  # fmt: skip

IMAGE = (1, 8, 8, 8)
TOKENS = (1, 12, 32)


def stateful() -> ov.Model:
    x = parameter(TOKENS)
    y = linear(x, 32, "a")
    info = ov.op.util.VariableInfo()
    info.data_shape, info.data_type, info.variable_id = ov.PartialShape([1, 12, 32]), ov.Type.f32, "memory"
    memory = ov.op.util.Variable(info)
    before = op.read_value(const(np.zeros((1, 12, 32))), memory)
    mixed = op.add(op.multiply(before, const(0.5)), y)
    return model([linear(op.relu(mixed), 16, "b")], [x], [op.assign(mixed, memory)])


def lstm() -> ov.Model:
    x = parameter(TOKENS)
    y = linear(x, 16, "a")
    zero = const(np.zeros((1, 1, 16)))
    w, r, b = (const(normal(k, *s, scale=0.3)) for k, s in (("w", (1, 64, 16)), ("r", (1, 64, 16)), ("b", (1, 64))))
    made = named(op.lstm_sequence(y, zero, zero, ints(12), w, r, b, 16, "FORWARD"), "lstm")
    return model([linear(op.squeeze(made.output(0), ints(1)), 8, "c")], [x])


def gru() -> ov.Model:
    x = parameter(TOKENS)
    y = linear(x, 16, "a")
    w, r, b = (const(normal(k, *s, scale=0.3)) for k, s in (("w", (1, 48, 16)), ("r", (1, 48, 16)), ("b", (1, 48))))
    made = named(op.gru_sequence(y, const(np.zeros((1, 1, 16))), ints(12), w, r, b, 16, "FORWARD"), "gru")
    return model([linear(op.squeeze(made.output(0), ints(1)), 8, "c")], [x])


def branch_body() -> ov.Model:
    x, flag = parameter(TOKENS), parameter((1,), "flag")
    bodies = []
    for name in ("then", "else"):
        inner = op.parameter([1, 12, 32], np.float32)
        bodies.append(ov.Model([op.result(linear(inner, 32, name))], [inner], name))
    y = linear(x, 32, "a")
    made = named(op.if_op(op.greater(flag, const([0.0])).output(0)), "if")
    made.set_then_body(bodies[0])
    made.set_else_body(bodies[1])
    made.set_input(y.output(0), bodies[0].get_parameters()[0], bodies[1].get_parameters()[0])
    out = made.set_output(bodies[0].get_results()[0], bodies[1].get_results()[0])
    return model([linear(out, 16, "b")], [x, flag])


def loop_body() -> ov.Model:
    x = parameter(TOKENS)
    state, go = op.parameter([1, 12, 32], np.float32), op.constant(np.array([True]))
    body = ov.Model([op.result(op.tanh(linear(state, 32, "step"))), op.result(go)], [state], "body")
    after = body.outputs[0]
    made = named(op.loop(op.constant(np.int64(3)), op.constant(np.array([True]))), "loop")
    made.set_function(body)
    made.set_special_body_ports([-1, 1])
    made.set_merged_input(state, linear(x, 32, "a").output(0), after)
    return model([linear(made.get_iter_value(after, -1), 16, "b")], [x])


def iterator_body() -> ov.Model:
    x = parameter(TOKENS)
    step = op.parameter([1, 1, 32], np.float32)
    body = ov.Model([op.result(linear(step, 32, "step"))], [step], "body")
    made = named(op.tensor_iterator(), "iterator")
    made.set_function(body)
    made.set_sliced_input(step, linear(x, 32, "a").output(0), 0, 1, 1, -1, 1)
    return model([linear(made.get_concatenated_slices(body.outputs[0], 0, 1, 1, -1, 1), 16, "b")], [x])


def integer_only() -> ov.Model:
    x = parameter((1, 8), dtype=np.int64)
    return model([op.add(op.multiply(x, ints(3)), ints(1))], [x])


def nothing_to_quantize() -> ov.Model:
    x = parameter(IMAGE)
    return model([op.softmax(op.relu(x), 1)], [x])


def small_beside_large() -> ov.Model:
    x = parameter((1, 16, 32, 32))
    y = op.relu(conv(x, 32, "c1"))
    return model([linear(op.reduce_mean(y, ints(2, 3), False), 4, "fc"), conv(y, 32, "c2")], [x])


def bytes_image() -> ov.Model:
    x = parameter((1, 8, 8, 3), dtype=np.uint8)
    y = op.transpose(op.divide(op.convert(x, "f32"), const(255.0)), ints(0, 3, 1, 2))
    return model([conv(op.relu(conv(y, 16, "c1")), 8, "c2")], [x])


def zero_activation() -> ov.Model:
    x = parameter(IMAGE)
    y = op.relu(op.subtract(op.clamp(x, -1.0, 1.0), const(2.0)))
    return model([conv(op.add(conv(y, 8, "c1"), x), 8, "c2")], [x])


def _zero_channel(random: np.random.Generator) -> Any:
    x = random.standard_normal(IMAGE).astype(np.float32)
    x[:, 2] = 0
    return x


def zero_input_channel() -> ov.Model:
    x = parameter(IMAGE)
    return model([conv(op.relu(depthwise(x, "dw")), 8, "c1")], [x])


def vector_of_tuples() -> ov.Model:
    x, y = parameter((2, 8, 8, 8)), parameter((2, 8), "y")
    a = op.relu(conv(x, 8, "c1"))
    return model([conv(op.add(a, op.reshape(y, ints(2, 8, 1, 1), False)), 8, "c2")], [x, y])


def _two_inputs(random: np.random.Generator) -> Any:
    return random.standard_normal((2, 8, 8, 8)).astype(np.float32), random.standard_normal((2, 8)).astype(np.float32)


_BODY = {"if": "body", "loop": "body", "iterator": "body", "lstm": "recurrent", "gru": "recurrent"}


def _reason(op_name: str) -> dict[str, str]:
    return {op_name: _BODY[op_name]}


def _bytes(random: np.random.Generator) -> Any:
    return random.integers(0, 256, (1, 8, 8, 3), np.uint8)


def _integers(random: np.random.Generator) -> Any:
    return random.integers(0, 9, (1, 8))


CASES = [
    Case(stateful, "a b"),
    Case(lstm, "a c", reasons=_reason("lstm"), reasons_all=_reason("lstm")),
    Case(gru, "a c", reasons=_reason("gru"), reasons_all=_reason("gru")),
    Case(branch_body, "a b", reasons=_reason("if"), reasons_all=_reason("if")),
    Case(loop_body, "a b", reasons=_reason("loop"), reasons_all=_reason("loop")),
    Case(iterator_body, "a b", reasons=_reason("iterator"), reasons_all=_reason("iterator")),
    Case(integer_only, sample=_integers),
    Case(nothing_to_quantize),
    Case(small_beside_large, "c1 c2", "fc", reasons={"fc": "multiply-accumulates"}),
    Case(bytes_image, "c1 c2", sample=_bytes),
    Case(zero_activation, "c1 c2"),
    Case(zero_input_channel, "c1", "dw", sample=_zero_channel, reasons={"dw": "depthwise"}),
    Case(vector_of_tuples, "c1 c2", sample=_two_inputs, floor=12),
]
