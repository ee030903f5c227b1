"""Which ops are worth int8, and for every other one why not."""

from __future__ import annotations

from collections.abc import Iterator

from maxdrop.data.graph import Graph, Node, OpKind
from maxdrop.data.spec import Policy
from maxdrop.ptq.fusing import float_regions
from maxdrop.ptq.placement import PASS_THROUGH
from maxdrop.ptq.targets import ACTIVATION_PRODUCT, NEVER, SMALL_MACS_SHARE, TARGETS, Row

_QUANTIZABLE = frozenset({"float16", "float32"})
"""Element types that the runtime turns into int8; it executes ops on the others as they are."""

_MOVED_THROUGH = frozenset({OpKind.RELU, OpKind.ADD, OpKind.SUBTRACT, OpKind.MULTIPLY, OpKind.DIVIDE})


def target_row(node: Node, policy: Policy) -> Row | None:
    """The row of the target table that speaks of `node`; None when its kind never runs in int8."""
    if node.contraction is None:
        return None
    if node.contraction.weight_input is None:
        return ACTIVATION_PRODUCT
    return TARGETS[policy.target].get(node.kind)


def choose_int8(graph: Graph, policy: Policy) -> tuple[list[str], dict[str, str]]:
    """Split the ops that do the work into int8 and float.

    Returns:
        Names of the ops to run in int8, in topological order, and {op: reason} for all others that have
        multiply-accumulates or a body.
    """
    regions = float_regions(graph)
    total = sum(node.macs for node in graph) or 1
    chosen: list[str] = []
    reasons: dict[str, str] = {}
    for node in graph:
        if node.contraction is None:
            if node.kind in NEVER:
                reasons[node.name] = NEVER[node.kind]
            continue
        reason = next(_objections(graph, node, policy, regions, node.macs / total), None)
        if reason is None:
            chosen.append(node.name)
        else:
            reasons[node.name] = reason
    return chosen, reasons


def _objections(graph: Graph, node: Node, policy: Policy, regions: dict[str, str], share: float) -> Iterator[str]:
    """Reasons to leave `node` float, the strongest first."""
    row = target_row(node, policy)
    if node.name in policy.ignored:
        yield f"ignored scope: {policy.ignored[node.name]}"
    if row is None:
        yield f"target {policy.target} has no int8 kernel for {node.native_type}"
        return
    yield from _structural(graph, node)
    if policy.activations.symmetric is False and "asymmetric" not in row.legal:
        yield "asymmetric activations were asked for, but the runtime executes them in float here"
    if policy.placement == "all":
        return
    if not row.pays and not (policy.placement == "measured" and row.measurable):
        yield row.reason
    if node.name in policy.unprofitable:
        yield policy.unprofitable[node.name]
    if node.name in regions:
        yield regions[node.name]
    if share < SMALL_MACS_SHARE:
        yield f"{share:.2%} of the model's multiply-accumulates: a conversion costs more than int8 gains"


def _structural(graph: Graph, node: Node) -> Iterator[str]:
    contraction = node.contraction
    if contraction is None:
        return
    if node.attrs.get("float_only"):
        yield str(node.attrs["float_only"])
    for index in contraction.activation_inputs:
        value = graph.value(node.inputs[index])
        if value.dtype not in _QUANTIZABLE:
            yield f"input {index} has element type {value.dtype}"
        if value.is_constant:
            yield f"input {index} is a constant"
        if _joins_constant(graph, value.name):
            yield f"input {index} is joined with a constant: the runtime folds its quantizer and executes this in float"
    if contraction.weight_input is not None:
        weight = graph.value(node.inputs[contraction.weight_input])
        if weight.dtype not in _QUANTIZABLE:
            yield f"weight has element type {weight.dtype}"


def _joins_constant(graph: Graph, value: str) -> bool:
    """Whether a Concat with a constant branch lies above `value`, with only ops between that hand a quantizer on.

    The runtime moves quantizers through pass-through ops, rectifiers, and arithmetic with a constant.
    """
    stack, seen = [(value, False)], set()
    while stack:
        current, joined = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        if joined and graph.value(current).is_constant:
            return True
        node = graph.producer(current)
        if node.kind is OpKind.CONCAT:
            stack.extend((branch, True) for branch in node.inputs)
        elif node.kind in PASS_THROUGH:
            stack.append((node.inputs[0], joined))
        elif node.kind in _MOVED_THROUGH:
            moving = [(v, joined) for v in node.inputs if not graph.value(v).is_constant]
            stack.extend(moving if len(moving) == 1 else [])
    return False


def is_first_layer(graph: Graph, node: Node) -> bool:
    """Whether `node` reads a model input through nothing but pointwise and layout ops."""
    if node.contraction is None:
        return False
    value = node.inputs[node.contraction.activation_inputs[0]]
    passable = {
        OpKind.LAYOUT, OpKind.PAD, OpKind.CONVERT, OpKind.ADD, OpKind.SUBTRACT, OpKind.MULTIPLY, OpKind.DIVIDE,
        OpKind.SLICE, OpKind.SPLIT, OpKind.CONCAT,
    }  # fmt: skip
    while graph.producer(value).kind in passable:
        moving = [v for v in graph.producer(value).inputs if not graph.value(v).is_constant]
        if not moving:
            return False
        value = moving[0]
    return graph.producer(value).kind is OpKind.PARAMETER
