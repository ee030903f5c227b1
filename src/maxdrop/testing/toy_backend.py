"""A complete backend in numpy: small enough to read in one go, real enough to run every flow.

Int8 is simulated (fake quantize in float32), and so is speed: `latency` returns made-up seconds, counted from the
multiply-accumulates, so that tests and examples give the same answer on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.graph import Contraction, Graph, Node, OpKind, Use, Value
from maxdrop.data.plan import Arrays, QuantizationPlan, Quantizer, UseRef
from maxdrop.data.protocols import Progress, Switchable
from maxdrop.data.statistics import Request, Statistics, TensorStatistics
from maxdrop.errors import PlanError, ValidationError
from maxdrop.ptq.numerics import weight_codes
from maxdrop.testing.toy_model import ToyModel, ToyOp

_KINDS = {
    "Parameter": OpKind.PARAMETER,
    "Constant": OpKind.CONSTANT,
    "MatMul": OpKind.MATMUL,
    "Relu": OpKind.RELU,
    "Add": OpKind.ADD,
    "Concat": OpKind.CONCAT,
    "Result": OpKind.RESULT,
    "FakeQuantize": OpKind.FAKE_QUANTIZE,
    "Dequantize": OpKind.OTHER,
}
_SECONDS_PER_MAC = {"float": 4e-9, "int8": 1e-9}
_SECONDS_PER_OP = 1e-8
_FREE = frozenset({"Parameter", "Constant", "Dequantize", "Result"})


@dataclass(frozen=True)
class ToyCompiled:
    """What a validation function receives; call it with a sample to get the list of outputs."""

    model: ToyModel

    def __call__(self, sample: Any) -> list[NDArray[Any]]:
        """Outputs for one sample."""
        return self.model.run(sample)


class ToyBackend:
    """`ToyModel` in, `ToyModel` out."""

    @property
    def versions(self) -> dict[str, str]:
        """Versions that decide what a model computes."""
        return {"numpy": np.__version__}

    @property
    def machine(self) -> dict[str, str]:
        """What decides how fast a model runs: nothing, as the seconds are made up."""
        return {"cpu": "made up"}

    @property
    def runs_target(self) -> bool:
        """Numpy runs everywhere."""
        return True

    def own(self, model: ToyModel) -> ToyModel:
        """The model itself, which nothing changes."""
        return model

    def graph(self, model: ToyModel) -> Graph:
        """A read-only view of `model`."""
        widths = model.widths()
        uses: dict[str, list[Use]] = {op.name: [] for op in model.ops}
        for op in model.ops:
            for index, name in enumerate(op.inputs):
                uses[name].append(Use(op.name, index))
        values = []
        for op in model.ops:
            known = op.type == "Constant"
            shape = tuple(model.constants[op.name].shape) if known else (None, widths[op.name])
            dtype = model.constants[op.name].dtype.name if known else "float32"
            values.append(Value(op.name, op.name, tuple(uses[op.name]), shape, dtype, known))
        nodes = [self._node(model, op) for op in model.ops]
        return Graph(nodes, values, lambda name: model.constants[name], model.fingerprint())

    def _node(self, model: ToyModel, op: ToyOp) -> Node:
        contraction = None
        if op.type == "MatMul":
            channel = 1 if op.attrs.get("transpose_b") else 0
            contraction = Contraction((0,), (-1,), 1, (1 - channel,), channel, -1)
        return Node(op.name, _KINDS[op.type], op.type, op.inputs, (op.name,), contraction, model.macs(op))

    def observe(
        self,
        model: ToyModel,
        requests: Sequence[Request],
        samples: Iterable[Any],
        progress: Progress,
        *,
        exact: bool = True,
    ) -> Statistics:
        """Run `samples` once and return statistics of the requested values; every row is kept, and always exact."""
        found: dict[str, TensorStatistics] = {}
        for number, sample in enumerate(samples):
            values = model.evaluate(sample)
            for request in requests:
                seen = _statistics(values[request.value])
                earlier = found.get(request.key)
                found[request.key] = seen if earlier is None else earlier.merge(seen)
            progress(number + 1)
        return Statistics(found, model.fingerprint())

    def apply(self, model: ToyModel, plan: QuantizationPlan, arrays: Arrays, *, observable: bool = False) -> ToyModel:
        """A new model that follows `plan`; `model` stays as it is.

        Raises:
            PlanError: when the plan was made for another model.
        """
        if plan.graph != model.fingerprint():
            message = f"a plan fits only the model it was made for, but this one was made for {plan.graph[:12]}"
            raise PlanError(message)
        surgery = _Surgery(model)
        for edit in plan.edits:
            surgery.add_after(edit.op, arrays.get(edit.shift))
        for quantizer in plan.quantizers:
            surgery.quantize(quantizer, arrays)
        return surgery.result()

    def compile(self, model: ToyModel, config: Mapping[str, Any]) -> ToyCompiled:
        """The runnable object; there is nothing to configure."""
        return ToyCompiled(model)

    def outputs(
        self, model: ToyModel, config: Mapping[str, Any], samples: Iterable[Any]
    ) -> Iterator[list[NDArray[Any]]]:
        """Outputs of `model` for one sample after the other."""
        return (model.run(sample) for sample in samples)

    def limit_threads(self, count: int) -> None:
        """Numpy is not asked for threads."""

    def switchable(self, model: ToyModel, plan: QuantizationPlan) -> Switchable:
        """The model with a switch in front of every int8 op."""
        return ToySwitchable(model, plan)

    def save(self, model: ToyModel, path: Path) -> None:
        """Write `model` to `path` as JSON, atomically."""
        model.save(path)

    def load(self, path: Path) -> ToyModel:
        """Read a model.

        Raises:
            ValidationError: when the file is no toy model.
        """
        try:
            return ToyModel.from_json(path.read_text())
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = f"{path} must be a toy model, but: {error}"
            raise ValidationError(message) from error

    def latency(
        self, models: Sequence[ToyModel], config: Mapping[str, Any], samples: Sequence[Any], blocks: int
    ) -> NDArray[np.float64]:
        """Made-up seconds: so much for each op and each multiply-accumulate, of which int8 takes a quarter."""
        return np.repeat([[sum(_seconds(model).values())] for model in models], blocks, axis=1)

    def busy(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """There is nothing to configure."""
        return dict(config)

    def op_seconds(
        self, models: Sequence[ToyModel], config: Mapping[str, Any], sample: Any, graph: Graph
    ) -> list[dict[str, float]]:
        """The same made-up seconds, by op."""
        return [{op: spent for op, spent in _seconds(model).items() if op in graph} for model in models]

    def default_reduced_range(self) -> Literal["all", "first", "none"]:
        """Numpy's sums do not saturate."""
        return "none"

    def executed(self, compiled: ToyCompiled, plan: QuantizationPlan) -> dict[str, bool]:
        """For each op of the plan, whether both its operands are quantized."""
        kinds = {op.name: op.type for op in compiled.model.ops}
        by_name = {op.name: op for op in compiled.model.ops}
        return {name: _is_integer(by_name[name], kinds) for name in (*plan.int8_ops, *plan.float_ops)}


def _seconds(model: ToyModel) -> dict[str, float]:
    kinds = {op.name: op.type for op in model.ops}
    found = {}
    for op in model.ops:
        speed = "int8" if _is_integer(op, kinds) else "float"
        cost = 0.0 if op.type in _FREE else _SECONDS_PER_OP
        found[op.name] = cost + model.macs(op) * _SECONDS_PER_MAC[speed]
    return found


class ToySwitchable:
    """The float model, in which any set of ops can read quantized activations.

    Args:
        model: the float model.
        plan: gives the quantizers of every op that gets a switch.
    """

    def __init__(self, model: ToyModel, plan: QuantizationPlan) -> None:
        self._model = model
        self._ops = list(plan.int8_ops)
        self._quantizers = {use: q for q in plan.quantizers if not q.constant for use in q.serves}

    @property
    def ops(self) -> Sequence[str]:
        """The ops that have a switch, in topological order."""
        return self._ops

    def run(self, sample: Any, on: Iterable[str]) -> list[NDArray[Any]]:
        """Outputs for one sample with the activations of the ops in `on` quantized."""
        surgery = _Surgery(self._model)
        for op in on:
            for use, quantizer in self._quantizers.items():
                if use.node == op:
                    surgery.insert(quantizer, surgery.source(use), (use,), f"switch/{op}:{use.index}")
        return surgery.result().run(sample)


class _Surgery:
    """Edits on a copy of the op list; the model it starts from is not changed."""

    def __init__(self, model: ToyModel) -> None:
        self._ops = {op.name: op for op in model.ops}
        self._constants = dict(model.constants)
        self._outputs = {op.name: op.name for op in model.ops}

    def result(self) -> ToyModel:
        """The edited model, without constants that nothing reads any more."""
        read = {name for op in self._ops.values() for name in op.inputs}
        ops = [op for op in self._ops.values() if op.type != "Constant" or op.name in read]
        return ToyModel(ops, {op.name: self._constants[op.name] for op in ops if op.type == "Constant"})

    def source(self, use: UseRef) -> str:
        """What `use` reads now."""
        return self._ops[use.node].inputs[use.index]

    def add_after(self, op: str, shift: NDArray[Any]) -> None:
        """Add a constant to the output of `op`, for all its readers."""
        readers = [UseRef(node=o.name, index=i) for o in self._ops.values() for i, n in enumerate(o.inputs) if n == op]
        constant, added = f"{op}/shift", f"{op}/shifted"
        self._constants[constant] = shift
        self._ops[constant] = ToyOp(constant, "Constant")
        self._ops[added] = ToyOp(added, "Add", (op, constant))
        self._outputs[op] = added
        self._redirect(readers, added)

    def quantize(self, quantizer: Quantizer, arrays: Arrays) -> None:
        """Follow one entry of a plan."""
        if not quantizer.constant:
            name = f"{quantizer.id}/fake_quantize"
            self.insert(quantizer, self._outputs[quantizer.value], quantizer.uses, name)
            return
        codes = f"{quantizer.id}/int8"
        self._constants[codes] = weight_codes(quantizer, self._constants[quantizer.value], arrays)
        self._ops[codes] = ToyOp(codes, "Constant")
        self._insert("Dequantize", quantizer, codes, quantizer.uses, f"{quantizer.id}/dequantized")

    def insert(self, quantizer: Quantizer, source: str, uses: Sequence[UseRef], name: str) -> None:
        """A FakeQuantize between `source` and `uses`."""
        self._insert("FakeQuantize", quantizer, source, uses, name)

    def _insert(self, kind: str, quantizer: Quantizer, source: str, uses: Sequence[UseRef], name: str) -> None:
        attrs = {"spec": quantizer.spec.model_dump(mode="json"), "params": quantizer.params.model_dump(mode="json")}
        self._ops[name] = ToyOp(name, kind, (source,), attrs)
        self._redirect(uses, name)

    def _redirect(self, uses: Sequence[UseRef], name: str) -> None:
        for use in uses:
            op = self._ops[use.node]
            inputs = [name if i == use.index else old for i, old in enumerate(op.inputs)]
            self._ops[use.node] = replace(op, inputs=tuple(inputs))


def _is_integer(op: ToyOp, kinds: Mapping[str, str]) -> bool:
    return op.type == "MatMul" and [kinds[name] for name in op.inputs] == ["FakeQuantize", "Dequantize"]


def _statistics(value: NDArray[Any]) -> TensorStatistics:
    """Statistics of one sample, of which every row is a position."""
    return TensorStatistics(
        value.min(keepdims=True).ravel(),
        value.max(keepdims=True).ravel(),
        value.min(axis=0),
        value.max(axis=0),
        value.mean(axis=0, dtype=np.float64).astype(np.float32),
        value.astype(np.float32),
        np.zeros(len(value), np.int32),
    )
