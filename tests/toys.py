"""Models that several test modules use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.testing.toy_model import ToyModel, ToyOp

F32 = NDArray[np.float32]


def toy_model(seed: int = 0, width: int = 8) -> ToyModel:
    """Two branches that meet in a Concat; one matrix product reads another directly."""
    rng = np.random.default_rng(seed)

    def weight(*shape: int) -> F32:
        return rng.normal(0.0, shape[0] ** -0.5, shape).astype(np.float32)

    ops = [
        ToyOp("x", "Parameter", attrs={"width": width}),
        *(ToyOp(name, "Constant") for name in ("wa", "ba", "wb", "wc", "wd", "we")),
        ToyOp("a", "MatMul", ("x", "wa")),
        ToyOp("a_bias", "Add", ("a", "ba")),
        ToyOp("a_relu", "Relu", ("a_bias",)),
        ToyOp("b", "MatMul", ("x", "wb"), {"transpose_b": True}),
        ToyOp("c", "MatMul", ("b", "wc")),
        ToyOp("both", "Concat", ("a_relu", "c")),
        ToyOp("d", "MatMul", ("both", "wd")),
        ToyOp("d_relu", "Relu", ("d",)),
        ToyOp("e", "MatMul", ("d_relu", "we")),
        ToyOp("sum", "Add", ("e", "x")),
        ToyOp("y", "Result", ("sum",)),
    ]
    constants = {
        "wa": weight(width, width),
        "ba": weight(width),
        "wb": weight(width, width),
        "wc": weight(width, width),
        "wd": weight(2 * width, width),
        "we": weight(width, width),
    }
    return ToyModel(ops, constants)


def toy_samples(count: int = 16, seed: int = 1, width: int = 8) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0.3, 1.0, (32, width)).astype(np.float32) for _ in range(count)]


def rare_model(width: int = 16) -> ToyModel:
    """Only extremes that no mean squared error cares about pass its Relu: the default ranges clip what counts."""
    rng = np.random.default_rng(0)
    weights = rare_weights(rng, width)
    ops = [
        ToyOp("x", "Parameter", attrs={"width": width}),
        *(ToyOp(name, "Constant") for name in weights),
        ToyOp("first", "MatMul", ("x", "w_first")),
        ToyOp("rare", "MatMul", ("first", "w_rare")),
        ToyOp("beyond", "Add", ("rare", "minus")),
        ToyOp("spikes", "Relu", ("beyond",)),
        ToyOp("last", "MatMul", ("spikes", "w_last")),
        ToyOp("more", "MatMul", ("last", "w_more")),
        ToyOp("y", "Result", ("more",)),
    ]
    return ToyModel(ops, weights)


def rare_weights(rng: np.random.Generator, width: int) -> dict[str, F32]:
    """The constants of `rare_model` by name."""

    def rotation() -> F32:
        return np.asarray(np.linalg.qr(rng.normal(size=(width, width)))[0], np.float32)

    almost = np.eye(width, dtype=np.float32) + 0.01 * rotation()
    minus = np.full(width, -8.0, np.float32)
    return {"w_first": almost, "w_rare": almost.T.copy(), "minus": minus, "w_last": rotation(), "w_more": rotation()}


def rare_samples(count: int, seed: int = 1, width: int = 16) -> list[F32]:
    """Samples with a single extreme each."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        sample = rng.normal(size=(64, width)).astype(np.float32)
        sample[rng.integers(64), rng.integers(width)] = rng.uniform(12.0, 30.0)
        found.append(sample)
    return found
