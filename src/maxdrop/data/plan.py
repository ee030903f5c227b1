"""What is quantized, where and how: a plan is enough to rebuild the quantized model from the float one."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from maxdrop.data.schema import SCHEMA_VERSION, Frozen
from maxdrop.data.spec import Policy, Precision, QuantizerSpec, QuantParams
from maxdrop.errors import PlanError


class UseRef(Frozen):
    """A reader of a value: input number `index` of node `node`."""

    node: str
    index: int


class ArrayRef(Frozen):
    """An array kept beside the plan, found by its content."""

    sha256: str
    shape: tuple[int, ...]


class Quantizer(Frozen):
    """One entry of the plan: where, how and with which numbers a value is quantized.

    Attributes:
        id: unique within the plan.
        value: the value that is quantized.
        uses: who reads the quantized value; all other readers keep the float one.
        serves: inputs of int8 ops that it makes integer, directly or through pass-through ops.
        constant: True for weights, which are stored as int8 codes.
        group: quantizers of one group have equal parameters.
        codes: of weights that are not rounded to the nearest: int8, in the weight's own layout.
    """

    id: str
    value: str
    uses: tuple[UseRef, ...]
    serves: tuple[UseRef, ...]
    constant: bool
    spec: QuantizerSpec
    params: QuantParams
    group: str
    codes: ArrayRef | None = None


class BiasShift(Frozen):
    """Add `shift`, one float32 per output channel, to the output of `op`; lost when `op` is reverted."""

    type: Literal["bias_shift"] = "bias_shift"
    op: str
    shift: ArrayRef
    reason: str


Edit = Annotated[BiasShift, Field(discriminator="type")]


class Candidate(Frozen):
    """The ops that are not plain int8. Equal candidates have equal keys, whatever the order of the entries."""

    precisions: dict[str, Precision] = Field(default_factory=dict)

    def key(self) -> str:
        """A short stable name of the content."""
        return _digest({op: self.precisions[op].value for op in sorted(self.precisions)})[:16]

    def with_precision(self, ops: Mapping[str, Precision]) -> Candidate:
        """The same candidate with the given ops changed; `Precision.INT8` removes an entry."""
        merged = {**self.precisions, **ops}
        kept = {op: p for op, p in sorted(merged.items()) if p is not Precision.INT8}
        return Candidate(precisions=kept)


class QuantizationPlan(Frozen):
    """The decisions of one quantization.

    Attributes:
        graph: fingerprint of the float model.
        int8_ops: convolutions and matrix products that are meant to run in int8.
        float_ops: those that stay float, each with the reason.
    """

    schema_version: int = SCHEMA_VERSION
    graph: str
    policy: Policy
    candidate: Candidate
    quantizers: tuple[Quantizer, ...]
    edits: tuple[Edit, ...] = ()
    int8_ops: tuple[str, ...]
    float_ops: dict[str, str]

    def __repr__(self) -> str:
        """One line: a plan holds thousands of numbers. `model_dump()` gives them."""
        return (
            f"<QuantizationPlan of {self.graph[:12]}: {len(self.int8_ops)} int8 ops, {len(self.float_ops)} float, "
            f"{len(self.quantizers)} quantizers>"
        )

    __str__ = __repr__

    def key(self) -> str:
        """SHA-256 over the whole content; equal plans build equal models."""
        return _digest(self.model_dump(mode="json"))


class Arrays:
    """Content-addressed arrays that are too large for the plan's JSON."""

    def __init__(self, items: Mapping[str, NDArray[Any]] | None = None) -> None:
        self._items = dict(items or {})

    def put(self, array: NDArray[Any]) -> ArrayRef:
        """Store `array` and return its reference."""
        data = np.ascontiguousarray(array)
        sha = hashlib.sha256(f"{data.dtype.str}{data.shape}".encode() + data.tobytes()).hexdigest()
        self._items[sha] = data
        return ArrayRef(sha256=sha, shape=tuple(data.shape))

    def get(self, ref: ArrayRef) -> NDArray[Any]:
        """The array behind `ref`.

        Raises:
            PlanError: when the array is not in the store.
        """
        if ref.sha256 not in self._items:
            message = (
                f"every array that a plan names must lie beside it, but {ref.sha256[:12]} is missing; "
                "keep plan.json and plan.npz together"
            )
            raise PlanError(message)
        return self._items[ref.sha256]

    def subset(self, refs: list[ArrayRef]) -> Arrays:
        """Only the arrays that `refs` name."""
        return Arrays({ref.sha256: self.get(ref) for ref in refs})

    def save(self, path: Path) -> None:
        """Write all arrays to one .npz file."""
        arrays: dict[str, Any] = {sha: self._items[sha] for sha in sorted(self._items)}
        with path.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Arrays:
        """Read what `save` wrote; an absent file holds no arrays.

        Raises:
            PlanError: when the file is damaged.
        """
        found = cls()
        if not path.exists():
            return found
        try:
            with path.open("rb") as file, np.load(file) as data:
                damaged = [name for name in data.files if found.put(data[name]).sha256 != name]
        except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
            raise PlanError(f"{path} must hold the arrays of a plan, but cannot be read: {error}") from error
        if damaged:
            message = f"{path} must hold arrays by their content, but {damaged[0][:12]} has another; restore the file"
            raise PlanError(message)
        return found


def save_plan(plan: QuantizationPlan, arrays: Arrays, path: Path) -> None:
    """Write `plan` to `path` (JSON) and the arrays it names beside it (.npz)."""
    path.write_text(plan.model_dump_json(indent=1) + "\n")
    codes = [quantizer.codes for quantizer in plan.quantizers if quantizer.codes is not None]
    arrays.subset([*(edit.shift for edit in plan.edits), *codes]).save(path.with_suffix(".npz"))


def load_plan(path: Path) -> tuple[QuantizationPlan, Arrays]:
    """Read a plan and its arrays.

    Raises:
        PlanError: when the file is not a plan of this schema version, or holds unknown keys.
    """
    try:
        plan = QuantizationPlan.model_validate_json(path.read_text())
    except ValidationError as error:
        raise PlanError(f"{path} must be a plan of schema version {SCHEMA_VERSION}, but: {error}") from error
    if plan.schema_version != SCHEMA_VERSION:
        message = (
            f"{path} must have schema version {SCHEMA_VERSION}, but has {plan.schema_version}; "
            "make the plan again with this version of maxdrop"
        )
        raise PlanError(message)
    return plan, Arrays.load(path.with_suffix(".npz"))


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
