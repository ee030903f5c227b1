"""Random graphs: chains and branches of common ops on values of shape (1, channels, height, width)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from hypothesis import strategies as st
from openvino import opset13 as op

from tests.graphs.layers import (
    channels,
    conv,
    depthwise,
    grouped,
    ints,
    linear,
    matmul,
    model,
    named,
    parameter,
    port_of,
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One op: its kind, and numbers that choose its inputs and its form."""

    kind: str
    first: int
    second: int
    form: int


def _sizes(x: Any) -> list[int]:
    return [int(size) for size in port_of(x).get_shape()]


def _add(x: Any, y: Any, form: int, name: str) -> Any:
    return op.add(x, y) if _sizes(x) == _sizes(y) else op.relu(x)


def _concat(x: Any, y: Any, form: int, name: str) -> Any:
    a, b = _sizes(x), _sizes(y)
    return op.concat([x, y], 1) if a[2:] == b[2:] and a[1] + b[1] <= 48 else op.relu(x)


def _pool(x: Any, y: Any, form: int, name: str) -> Any:
    if form % 2:
        return op.max_pool(x, [1, 1], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
    return op.avg_pool(x, [1, 1], [1, 1], [1, 1], [3, 3], True)


def _reshape(x: Any, y: Any, form: int, name: str) -> Any:
    _, c, h, w = _sizes(x)
    shapes = [(1, c, w, h), (1, c, h * w, 1), (1, c * 2, h, w // 2), (1, c, h, w)]
    shape = shapes[form % 4]
    return op.reshape(x, ints(*shape), False) if np.prod(shape) == c * h * w and shape[1] <= 48 else op.relu(x)


def _product(x: Any, y: Any, form: int, name: str) -> Any:
    same = _sizes(x) == _sizes(y)
    return matmul(x, y if same else x, name, transpose_b=True)


def _split(x: Any, y: Any, form: int, name: str) -> Any:
    return op.split(x, op.constant(np.int64(1)), 2).output(form % 2) if channels(x) % 4 == 0 else op.relu(x)


def _grouped(x: Any, y: Any, form: int, name: str) -> Any:
    return grouped(x, channels(x), 2 if channels(x) % 2 == 0 else 1, name)


_ACTIVATIONS = [op.relu, op.swish, op.sigmoid, op.tanh, lambda x: op.clamp(x, 0.0, 6.0)]
BUILDERS: dict[str, Callable[[Any, Any, int, str], Any]] = {
    "conv": lambda x, y, form, name: conv(x, (8, 12, 16)[form % 3], name, kernel=(1, 3)[form % 2], bias=form % 4 > 0),
    "strided": lambda x, y, form, name: conv(x, 8, name, stride=2),
    "depthwise": lambda x, y, form, name: depthwise(x, name),
    "grouped": _grouped,
    "linear": lambda x, y, form, name: linear(x, (8, 12)[form % 2], name, bias=form > 3, transpose_b=form % 3 > 0),
    "product": _product,
    "add": _add,
    "multiply": lambda x, y, form, name: op.multiply(x, y) if _sizes(x) == _sizes(y) else op.sigmoid(x),
    "activation": lambda x, y, form, name: _ACTIVATIONS[form % 5](x),
    "concat": _concat,
    "pool": _pool,
    "reshape": _reshape,
    "transpose": lambda x, y, form, name: op.transpose(x, ints(0, 1, 3, 2)),
    "pad": lambda x, y, form, name: op.pad(x, ints(0, 0, 1, 0), ints(0, 0, 1, 0), ("constant", "edge")[form % 2]),
    "split": _split,
}

_STEP = st.builds(
    Step, st.sampled_from(sorted(BUILDERS)), st.integers(0, 3), st.integers(0, 3), st.integers(0, 11)
)  # fmt: skip
STEPS = st.lists(_STEP, min_size=2, max_size=9)


def build(steps: list[Step]) -> ov.Model:
    """The model that `steps` describe; what nothing reads is an output."""
    x = named(parameter((1, 8, 8, 8)), "x")
    values: list[Any] = [x]
    for number, step in enumerate(steps):
        first, second = (values[-1 - min(k, len(values) - 1)] for k in (step.first, step.second))
        values.append(BUILDERS[step.kind](first, second, step.form, f"{step.kind}{number}"))
    ends = [value for value in values[1:] if not port_of(value).get_target_inputs()]
    return model(ends, [x])
