"""What of a model is int8 and what float, as planned and as the runtime executes it, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxdrop.backends.openvino.provenance import Provenance, read_provenance
from maxdrop.backends.registry import open_model
from maxdrop.data.graph import Graph, Node, OpKind
from maxdrop.data.plan import Candidate, QuantizationPlan, load_plan
from maxdrop.data.protocols import Backend
from maxdrop.data.spec import Policy
from maxdrop.options import TargetDevice
from maxdrop.ptq.payoff import choose_int8
from maxdrop.resolve import QuantizeOptions, resolve_policy

MADE_BY_MAXDROP = "made by maxdrop"
BY_PLAN = "float model with a plan"
FLOAT = "float model; planned is what `quantize` would do by the target table, without measuring"
QUANTIZED = "quantized by another tool"

RUNTIME_REFUSES = "planned as int8, but the runtime executes it in float"
_NO_QUANTIZER = "no quantizer feeds it"
_MOVES = {
    OpKind.LAYOUT, OpKind.MAX_POOL, OpKind.CONCAT, OpKind.SPLIT, OpKind.SLICE, OpKind.PAD, OpKind.GATHER, OpKind.RELU,
}  # fmt: skip


@dataclass(frozen=True)
class OpReport:
    """One op that multiplies and sums.

    Attributes:
        name: of the op.
        type: the framework's name of its type.
        macs: multiply-accumulates of one inference.
        planned: whether it is meant to run in int8.
        executed: whether the runtime's kernel multiplies integers.
        reason: why it is not int8; empty where it is.
        form: how its int8 was tuned; empty where it follows the policy.
    """

    name: str
    type: str
    macs: int
    planned: bool
    executed: bool
    reason: str
    form: str = ""


@dataclass(frozen=True)
class Inspection:
    """All ops of a model that multiply and sum, in topological order.

    Attributes:
        origin: where the planned column comes from.
        ops: one entry for each op.
    """

    origin: str
    ops: tuple[OpReport, ...]

    @property
    def planned_share(self) -> float:
        """Share of the multiply-accumulates that are meant to be int8."""
        return self._share(op for op in self.ops if op.planned)

    @property
    def executed_share(self) -> float:
        """Share of the multiply-accumulates that the runtime executes in int8."""
        return self._share(op for op in self.ops if op.executed)

    def _share(self, chosen: Iterable[OpReport]) -> float:
        return sum(op.macs for op in chosen) / (sum(op.macs for op in self.ops) or 1)


def inspect_model(
    model: Any,
    plan: str | Path | None = None,
    *,
    target: str = "ANY",
    compile_config: Mapping[str, Any] | None = None,
) -> Inspection:
    """Compile a model and report what is int8 in it.

    Args:
        model: `openvino.Model`, or path; float or quantized. Stays as it is.
        plan: path of a plan that is applied to a float model before it is compiled; not needed for models that
            maxdrop made, which carry their own reasons.
        target: row of the target table.
        compile_config: what the model will be compiled with.

    Raises:
        PlanError: the plan is for another model.
        ValidationError: the model cannot be read.
    """
    backend, opened = open_model(model, target)
    graph = backend.graph(opened)
    provenance = read_provenance(opened, {node.name for node in graph})
    if plan is not None:
        loaded, arrays = load_plan(Path(plan))
        if provenance is None or provenance.plan_key != loaded.key():
            opened = backend.apply(opened, loaded, arrays)
            return _report(BY_PLAN, backend, opened, graph, loaded.float_ops, compile_config)
    origin, reasons = _explain(backend, graph, provenance, target)
    return _report(origin, backend, opened, graph, reasons, compile_config)


def _explain(
    backend: Backend[Any], graph: Graph, provenance: Provenance | None, target: str
) -> tuple[str, dict[str, str]]:
    """Where the plan comes from, and {op: why it is float}."""
    if provenance is not None:
        return MADE_BY_MAXDROP, provenance.float_ops
    if any(node.kind is OpKind.FAKE_QUANTIZE for node in graph):
        floats = [node.name for node in graph.contractions if not _is_fed_by_quantizer(graph, node)]
        return QUANTIZED, dict.fromkeys(floats, _NO_QUANTIZER)
    options = QuantizeOptions(target_device=TargetDevice(target), placement="table")
    return FLOAT, choose_int8(graph, resolve_policy(graph, options, backend.default_reduced_range()))[1]


def _report(
    origin: str,
    backend: Backend[Any],
    model: Any,
    graph: Graph,
    reasons: Mapping[str, str],
    compile_config: Mapping[str, Any] | None,
) -> Inspection:
    nodes = [node for node in graph if node.contraction is not None or node.name in reasons]
    executed = _executed(backend, model, graph, [node.name for node in nodes], compile_config)
    provenance = read_provenance(model, {node.name for node in graph})
    forms = {} if provenance is None else provenance.forms
    return Inspection(origin, tuple(_op(node, reasons, executed[node.name], origin, forms) for node in nodes))


def _op(node: Node, reasons: Mapping[str, str], executed: bool, origin: str, forms: Mapping[str, str]) -> OpReport:
    planned = node.name not in reasons
    refused = RUNTIME_REFUSES if planned and not executed and origin != FLOAT else ""
    reason, form = reasons.get(node.name, refused), forms.get(node.name, "")
    return OpReport(node.name, node.native_type, node.macs, planned, executed, reason, form)


def _executed(
    backend: Backend[Any], model: Any, graph: Graph, ops: list[str], compile_config: Mapping[str, Any] | None
) -> dict[str, bool]:
    asked = QuantizationPlan(
        graph=graph.fingerprint,
        policy=Policy(),
        candidate=Candidate(),
        quantizers=(),
        int8_ops=tuple(ops),
        float_ops={},
    )
    return backend.executed(backend.compile(model, compile_config or {}), asked)


def _is_fed_by_quantizer(graph: Graph, node: Node) -> bool:
    if node.contraction is None:
        return False
    source = graph.producer(node.inputs[node.contraction.activation_inputs[0]])
    while source.kind in _MOVES:
        source = graph.producer(source.inputs[0])
    return source.kind is OpKind.FAKE_QUANTIZE
