"""A tiny numpy model: named ops in topological order, stored as one JSON file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.spec import QuantizerSpec, QuantParams
from maxdrop.errors import ValidationError
from maxdrop.ptq.numerics import dequantize, fake_quantize

Array = NDArray[Any]

OPERANDS = {
    "Parameter": 0,
    "Constant": 0,
    "MatMul": 2,
    "Relu": 1,
    "Add": 2,
    "Concat": 2,
    "Result": 1,
    "FakeQuantize": 1,
    "Dequantize": 1,
}
"""The op types, each with the number of its inputs (Concat: at least)."""


@dataclass(frozen=True)
class ToyOp:
    """One op with one output, which bears the op's name.

    Attributes:
        name: unique.
        type: one of `OPERANDS`.
        inputs: names of the ops it reads.
        attrs: JSON-able: "width" of a Parameter; "transpose_b" of a MatMul; "spec" and "params" of FakeQuantize
            and Dequantize.
    """

    name: str
    type: str
    inputs: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)


class ToyModel:
    """Ops on arrays of shape (rows, width).

    Args:
        ops: in any order; kept in topological order.
        constants: the array of each op of type Constant.

    Raises:
        ValidationError: when an op is unknown, names are repeated, or an input is missing or part of a cycle.
    """

    def __init__(self, ops: Sequence[ToyOp], constants: Mapping[str, Array]) -> None:
        self.ops = _sorted(ops)
        self.constants = dict(constants)

    @property
    def inputs(self) -> list[str]:
        """Names of the parameters."""
        return [op.name for op in self.ops if op.type == "Parameter"]

    def widths(self) -> dict[str, int]:
        """Size of the last axis of every op's output."""
        found: dict[str, int] = {}
        for op in self.ops:
            widths = [found[name] for name in op.inputs]
            if op.type == "Parameter":
                found[op.name] = int(op.attrs["width"])
            elif op.type == "Constant":
                found[op.name] = self.constants[op.name].shape[-1]
            elif op.type == "MatMul":
                found[op.name] = self.shape(op.inputs[1])[0 if op.attrs.get("transpose_b") else 1]
            else:
                found[op.name] = sum(widths) if op.type == "Concat" else max(widths)
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a constant, seen through Dequantize."""
        op = next(op for op in self.ops if op.name == name)
        return self.shape(op.inputs[0]) if op.type == "Dequantize" else tuple(self.constants[name].shape)

    def evaluate(self, sample: Any) -> dict[str, Array]:
        """The output of every op.

        Args:
            sample: an array, or a tuple with one for each parameter.

        Raises:
            ValidationError: when the sample does not fit the parameters.
        """
        parts = sample if isinstance(sample, tuple) else (sample,)
        widths = [int(op.attrs["width"]) for op in self.ops if op.type == "Parameter"]
        arrays = [np.asarray(part, np.float32) for part in parts]
        if [a.shape[1:] for a in arrays] != [(width,) for width in widths]:
            message = (
                f"a sample must have shapes (rows, width) with widths {widths}, but got {[a.shape for a in arrays]}"
            )
            raise ValidationError(message)
        values: dict[str, Array] = dict(zip(self.inputs, arrays, strict=True))
        for op in self.ops:
            if op.type == "Constant":
                values[op.name] = self.constants[op.name]
            elif op.type != "Parameter":
                values[op.name] = _compute(op, [values[name] for name in op.inputs])
        return values

    def run(self, sample: Any) -> list[Array]:
        """The outputs for one sample."""
        values = self.evaluate(sample)
        return [values[op.name] for op in self.ops if op.type == "Result"]

    def macs(self, op: ToyOp) -> int:
        """Multiply-accumulates of one row."""
        return prod(self.shape(op.inputs[1])) if op.type == "MatMul" else 0

    def fingerprint(self) -> str:
        """Identifies structure and constants."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """The whole model as text; equal models give equal text."""
        ops = [{"name": op.name, "type": op.type, "inputs": op.inputs, "attrs": op.attrs} for op in self.ops]
        constants = {
            name: {"dtype": array.dtype.name, "shape": array.shape, "data": array.ravel().tolist()}
            for name, array in sorted(self.constants.items())
        }
        return json.dumps({"ops": ops, "constants": constants})

    @classmethod
    def from_json(cls, text: str) -> ToyModel:
        """Read what `to_json` wrote."""
        content = json.loads(text)
        ops = [ToyOp(op["name"], op["type"], tuple(op["inputs"]), op["attrs"]) for op in content["ops"]]
        constants = {
            name: np.array(c["data"], c["dtype"]).reshape(c["shape"]) for name, c in content["constants"].items()
        }
        return cls(ops, constants)

    def save(self, path: Path) -> None:
        """Write the model to one file, atomically."""
        part = path.with_name(path.name + ".part")
        part.write_text(self.to_json())
        part.replace(path)


def numbers(op: ToyOp) -> tuple[QuantParams, QuantizerSpec]:
    """Parameters and form of a FakeQuantize or Dequantize op."""
    return QuantParams.model_validate(op.attrs["params"]), QuantizerSpec.model_validate(op.attrs["spec"])


def _compute(op: ToyOp, inputs: list[Array]) -> Array:
    if op.type == "MatMul":
        return np.asarray(inputs[0] @ (inputs[1].T if op.attrs.get("transpose_b") else inputs[1]))
    if op.type == "Relu":
        return np.maximum(inputs[0], np.float32(0))
    if op.type == "Add":
        return np.asarray(inputs[0] + inputs[1])
    if op.type == "Concat":
        return np.concatenate(inputs, axis=-1)
    if op.type == "FakeQuantize":
        return fake_quantize(inputs[0], *numbers(op))
    if op.type == "Dequantize":
        return dequantize(inputs[0], *numbers(op))
    return inputs[0]


def _sorted(ops: Sequence[ToyOp]) -> list[ToyOp]:
    """`ops` with every op behind those it reads, otherwise in the order given."""
    todo = list(ops)
    done: dict[str, ToyOp] = {}
    for op in todo:
        if op.type not in OPERANDS or len(op.inputs) < OPERANDS[op.type]:
            message = f"an op must be one of {sorted(OPERANDS)} with all its inputs, but got {op}"
            raise ValidationError(message)
    while todo:
        ready = next((op for op in todo if op.name not in done and all(name in done for name in op.inputs)), None)
        if ready is None:
            message = f"ops must have unique names and inputs that exist, but these do not: {[op.name for op in todo]}"
            raise ValidationError(message)
        done[ready.name] = ready
        todo.remove(ready)
    return list(done.values())
