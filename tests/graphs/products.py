"""Matrix products: constant operands in every layout, and products of two activations."""

from __future__ import annotations

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

from maxdrop.backends.openvino.isa import has_int8_tiles
from tests.graphs.case import Case
from tests.graphs.layers import (
    add_bias,
    channels,
    const,
    heads,
    ints,
    joined,
    layer_norm,
    linear,
    matmul,
    model,
    normal,
    parameter,
)  # fmt: skip

TOKENS = (1, 12, 32)


def linear_transposed() -> ov.Model:
    x = parameter(TOKENS)
    return model([linear(op.relu(linear(x, 48, "a")), 16, "b")], [x])


def linear_plain() -> ov.Model:
    x = parameter(TOKENS)
    return model([linear(op.relu(linear(x, 48, "a", transpose_b=False)), 16, "b", transpose_b=False)], [x])


def linear_transposed_input() -> ov.Model:
    x = parameter((1, 32, 12))
    weight = const(normal("a", 32, 48, scale=0.2))
    return model([linear(add_bias(matmul(x, weight, "a", transpose_a=True), 48, "a", -1), 16, "b")], [x])


def linear_2d() -> ov.Model:
    x = parameter((1, 32))
    return model([linear(op.relu(linear(x, 48, "a")), 16, "b")], [x])


def linear_4d() -> ov.Model:
    x = parameter((1, 2, 12, 32))
    return model([linear(op.relu(linear(x, 48, "a")), 16, "b")], [x])


def weight_of_rank_3() -> ov.Model:
    x = parameter(TOKENS)
    a = matmul(x, const(normal("a", 1, 32, 48, scale=0.2)), "a")
    b = matmul(op.relu(a), const(normal("b", 1, 16, 48, scale=0.2)), "b", transpose_b=True)
    return model([b], [x])


def weight_along_batch() -> ov.Model:
    x = parameter((3, 12, 32))
    a = matmul(x, const(normal("a", 3, 32, 48, scale=0.2)), "a")
    return model([linear(op.relu(a), 16, "b")], [x])


def constant_left_operand() -> ov.Model:
    x = parameter((1, 12, 32))
    a = linear(x, 32, "a")
    return model([matmul(const(normal("mix", 10, 12, scale=0.3)), a, "mix")], [x])


def weight_vector() -> ov.Model:
    x = parameter(TOKENS)
    a = op.relu(linear(x, 48, "a"))
    return model([matmul(a, const(normal("v", 48, scale=0.2)), "v")], [x])


def input_vector() -> ov.Model:
    x = parameter((32,))
    return model([matmul(x, const(normal("v", 32, 16, scale=0.2)), "v")], [x])


def product_of_activations() -> ov.Model:
    x, y = parameter((1, 12, 32)), parameter((1, 32, 24), "y")
    return model([linear(matmul(x, y, "p"), 16, "fc")], [x, y])


def product_of_positive_activations() -> ov.Model:
    x, y = parameter((1, 12, 32)), parameter((1, 32, 24), "y")
    return model([linear(matmul(op.relu(x), op.relu(y), "p"), 16, "fc")], [x, y])


def _qkv(x: ov.Node) -> list[ov.Node]:
    return [heads(linear(x, 32, name), 4) for name in ("q", "k", "v")]


def attention() -> ov.Model:
    x, mask = parameter(TOKENS), parameter((1, 1, 1, 12), "mask")
    q, k, v = _qkv(layer_norm(x, "ln"))
    scores = op.add(op.multiply(matmul(q, k, "qk", transpose_b=True), const(8**-0.5)), mask)
    mixed = matmul(op.softmax(scores, -1), v, "pv")
    return model([op.add(x, linear(joined(mixed, 32), 32, "o"))], [x, mask])


def fused_attention() -> ov.Model:
    x = parameter(TOKENS)
    q, k, v = _qkv(x)
    mixed = op.scaled_dot_product_attention(q, k, v)
    mixed.set_friendly_name("sdpa")
    return model([linear(joined(mixed, 32), 32, "o")], [x])


def decomposed_layer_norm() -> ov.Model:
    x = parameter(TOKENS)
    return model([linear(layer_norm(linear(layer_norm(x, "n1"), 32, "a"), "n2"), 16, "b")], [x])


def mvn_with_outlier_channel() -> ov.Model:
    x = parameter(TOKENS)
    normed = op.mvn(x, ints(2), True, 1e-6, "INSIDE_SQRT")
    gamma = np.ones(32, np.float32)
    gamma[5] = 20
    return model([linear(op.add(op.multiply(normed, const(gamma)), const(normal("beta", 32))), 16, "a")], [x])


def gelu_mlp() -> ov.Model:
    x = parameter(TOKENS)
    hidden = op.gelu(linear(layer_norm(x, "n"), 64, "up"), "tanh")
    return model([op.add(x, linear(hidden, 32, "down"))], [x])


def gated_mlp() -> ov.Model:
    x = parameter(TOKENS)
    hidden = op.multiply(op.swish(linear(x, 64, "gate", bias=False)), linear(x, 64, "up", bias=False))
    return model([linear(hidden, 32, "down", bias=False)], [x])


def _token_ids(random: np.random.Generator) -> NDArray[np.int64]:
    return random.integers(0, 50, (1, 12))


def embedding() -> ov.Model:
    ids = parameter((1, 12), "ids", np.int64)
    table = const(normal("table", 50, 32))
    x = op.gather(table, ids, op.constant(np.int64(0)))
    return model([linear(op.relu(linear(x, 32, "a")), 16, "b")], [ids])


def shared_weights_linear() -> ov.Model:
    x = parameter(TOKENS)
    weight = const(normal("w", 32, 32, scale=0.18))
    y = op.relu(matmul(x, weight, "a", transpose_b=True))
    return model([matmul(op.relu(matmul(y, weight, "b", transpose_b=True)), weight, "c", transpose_b=True)], [x])


def gather_between() -> ov.Model:
    x = parameter(TOKENS)
    y = op.gather(op.relu(linear(x, 32, "a")), ints(0, 3, 5), op.constant(np.int64(1)))
    return model([linear(y, 16, "b")], [x])


def lookup_of_token() -> ov.Model:
    x = parameter(TOKENS)
    y = op.gather(op.relu(linear(x, 32, "a")), op.constant(np.int64(0)), op.constant(np.int64(1)))
    return model([linear(op.tanh(linear(y, 32, "b")), 4, "c")], [x])


def einsum() -> ov.Model:
    x, y = parameter((1, 12, 32)), parameter((1, 24, 32), "y")
    mixed = op.einsum([linear(x, 32, "a"), y], "bnd,bmd->bnm")
    return model([linear(mixed, channels(y), "b")], [x, y])


_PRODUCT = {"p": "product of two activations"}
_BOTH = {"qk": "product of two activations", "pv": "product of two activations"}
_MASKED = {"qk": "one mask for all its rows"} if has_int8_tiles() else {}
CASES = [
    Case(linear_transposed, "a b"),
    Case(linear_plain, "a b"),
    Case(linear_transposed_input, "a b"),
    Case(linear_2d, "a b", floor=16),
    Case(linear_4d, "a b"),
    Case(weight_of_rank_3, "a b"),
    Case(weight_along_batch, "b", reasons={"a": "along the batch"}, reasons_all={"a": "along the batch"}),
    Case(constant_left_operand, "a", reasons={"mix": "constant"}, reasons_all={"mix": "constant"}),
    Case(weight_vector, "a", reasons={"v": "vector"}, reasons_all={"v": "vector"}),
    Case(input_vector, "", reasons={"v": "vector"}, reasons_all={"v": "vector"}),
    Case(product_of_activations, "fc", "p", reasons=_PRODUCT),
    Case(product_of_positive_activations, "fc", "p", reasons=_PRODUCT),
    Case(
        attention,
        "q k v o",
        "pv" if has_int8_tiles() else "qk pv",
        "qk pv",
        reasons={**_BOTH, **_MASKED},
        reasons_all=_MASKED,
    ),
    Case(
        fused_attention,
        "q k v o",
        reasons={"sdpa": "fused attention"},
        reasons_all={"sdpa": "fused attention"},
        floor=16,
        floor_all=22,
    ),
    Case(decomposed_layer_norm, "a b"),
    Case(mvn_with_outlier_channel, "a", floor=14),
    Case(gelu_mlp, "up down"),
    Case(gated_mlp, "gate up down", floor=15),
    Case(embedding, "a b", sample=_token_ids),
    Case(shared_weights_linear, "a b c", floor=20),
    Case(gather_between, "a b"),
    Case(lookup_of_token, "a b c", floor=22),
    Case(einsum, "a b", floor=20),
]
