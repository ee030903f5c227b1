"""Short ways to write small OpenVINO graphs. Every constant is random with a seed made from its op's name."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

F32 = np.float32


def rng(key: str) -> np.random.Generator:
    """A generator that depends on `key` only."""
    return np.random.default_rng(zlib.crc32(key.encode()))


def normal(key: str, *shape: int, scale: float = 1.0) -> NDArray[np.float32]:
    """Standard normal numbers."""
    return (rng(key).standard_normal(shape) * scale).astype(F32)


def const(data: Any, dtype: Any = F32) -> Any:
    """A constant."""
    return op.constant(np.asarray(data, dtype))


def ints(*data: int) -> Any:
    """A constant of int64."""
    return op.constant(np.asarray(data, np.int64))


def named(node: Any, name: str) -> Any:
    """`node`, called `name`."""
    node.set_friendly_name(name)
    return node


def parameter(shape: Sequence[int], name: str = "x", dtype: Any = F32) -> Any:
    """A model input whose tensor is called `name` too."""
    node = op.parameter(ov.PartialShape(list(shape)), dtype, name=name)
    node.output(0).get_tensor().set_names({name})
    return node


def model(outputs: Sequence[Any], inputs: Sequence[Any], sinks: Sequence[Any] = ()) -> ov.Model:
    """A model whose outputs' tensors are called "out0", "out1", ..."""
    results = []
    for i, out in enumerate(outputs):
        port = port_of(out)
        port.get_tensor().add_names({f"out{i}"})
        results.append(op.result(port))
    return ov.Model(results, list(sinks), list(inputs), "graph")


def port_of(x: Any) -> Any:
    """The first output of a node, or the output itself."""
    return x if isinstance(x, ov.Output) else x.output(0)


def channels(x: Any, axis: int = 1) -> int:
    """Size of an axis."""
    return int(port_of(x).get_partial_shape()[axis].get_length())


def spatial_rank(x: Any) -> int:
    """Number of axes behind batch and channels."""
    return int(port_of(x).get_partial_shape().rank.get_length()) - 2


def conv(
    x: Any, outputs: int, name: str, *, kernel: int = 3, bias: bool = True, stride: int = 1, weight: Any = None
) -> Any:
    """A dense convolution that keeps the size, with bias."""
    rank, inputs = spatial_rank(x), channels(x)
    if weight is None:
        weight = const(normal(name, outputs, inputs, *[kernel] * rank, scale=(inputs * kernel**rank) ** -0.5))
    pads = [kernel // 2] * rank
    made = named(op.convolution(x, weight, [stride] * rank, pads, pads, [1] * rank), name)
    return add_bias(made, outputs, name) if bias else made


def grouped(x: Any, outputs: int, groups: int, name: str, *, kernel: int = 3, bias: bool = True) -> Any:
    """A grouped convolution; depthwise when there are as many groups as channels."""
    rank, inputs = spatial_rank(x), channels(x) // groups
    shape = (groups, outputs // groups, inputs, *[kernel] * rank)
    weight = const(normal(name, *shape, scale=(inputs * kernel**rank) ** -0.5))
    pads = [kernel // 2] * rank
    made = named(op.group_convolution(x, weight, [1] * rank, pads, pads, [1] * rank), name)
    return add_bias(made, outputs, name) if bias else made


def depthwise(x: Any, name: str, *, kernel: int = 3) -> Any:
    """A depthwise convolution with bias."""
    return grouped(x, channels(x), channels(x), name, kernel=kernel)


def add_bias(x: Any, outputs: int, name: str, axis: int = 1) -> Any:
    """A constant for each channel."""
    rank = x.output(0).get_partial_shape().rank.get_length()
    shape = [outputs if i == axis % rank else 1 for i in range(rank)]
    bias = normal(f"{name}/bias", outputs, scale=0.2).reshape(shape)
    return named(op.add(x, const(bias)), f"{name}/add")


def linear(x: Any, outputs: int, name: str, *, bias: bool = True, transpose_b: bool = True) -> Any:
    """A matrix product with a constant, and a bias."""
    inputs = channels(x, -1)
    weight = normal(name, outputs, inputs, scale=inputs**-0.5)
    stored = const(weight if transpose_b else weight.T.copy())
    made = named(op.matmul(x, stored, False, transpose_b), name)
    return add_bias(made, outputs, name, -1) if bias else made


def matmul(a: Any, b: Any, name: str, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    """A matrix product."""
    return named(op.matmul(a, b, transpose_a, transpose_b), name)


def gate(x: Any, squeezed: Any, inner: Any, name: str) -> Any:
    """Squeeze-excite behind an already squeezed tensor; `inner` is the activation inside."""
    hidden = inner(conv(squeezed, 4, f"{name}/reduce", kernel=1))
    return op.multiply(x, op.sigmoid(conv(hidden, channels(x), f"{name}/expand", kernel=1)))


def layer_norm(x: Any, name: str) -> Any:
    """Layer normalisation written out as elementwise ops."""
    width = channels(x, -1)
    centered = op.subtract(x, op.reduce_mean(x, ints(-1), True))
    variance = op.reduce_mean(op.multiply(centered, centered), ints(-1), True)
    scaled = op.divide(centered, op.sqrt(op.add(variance, const(1e-5))))
    gamma = const(1 + normal(f"{name}/gamma", width, scale=0.1))
    return op.add(op.multiply(scaled, gamma), const(normal(f"{name}/beta", width, scale=0.1)))


def heads(x: Any, count: int) -> Any:
    """(batch, tokens, width) as (batch, heads, tokens, width of a head)."""
    return op.transpose(op.reshape(x, ints(0, 0, count, channels(x, -1) // count), True), ints(0, 2, 1, 3))


def joined(x: Any, width: int) -> Any:
    """The reverse of `heads`."""
    return op.reshape(op.transpose(x, ints(0, 2, 1, 3)), ints(0, 0, width), True)
