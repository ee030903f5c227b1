"""Where quantizers go: one for each source value, in front of everything that only moves the value.

A quantizer is wanted at each data input of an op that runs in int8. It then moves up through pass-through ops
(layout, max-pooling, padding with zero, ...) as long as everything that reads the moved value is int8 too, so that
the pass-through op handles bytes and all readers share one conversion. Readers that stay float keep reading the
float value, but for the skip connections in `skips`. At a Concat the quantizer splits onto the branches, which then
share their parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from maxdrop.data.graph import Graph, Node, OpKind, Use
from maxdrop.data.plan import UseRef

PASS_THROUGH = frozenset(
    {OpKind.LAYOUT, OpKind.MAX_POOL, OpKind.PAD, OpKind.SLICE, OpKind.SPLIT, OpKind.CONCAT, OpKind.GATHER}
)
"""Kinds that move or select values without arithmetic."""


@dataclass(frozen=True)
class Slot:
    """A place for one activation quantizer.

    Attributes:
        value: the value to quantize.
        uses: its readers that get the quantized value.
        serves: inputs of int8 ops that it reaches, directly or through pass-through ops.
        measured: values whose statistics give the range: the direct inputs of these ops.
        group: slots of one group must have equal parameters.
        per_channel: the single op served takes one scale for each channel.
    """

    value: str
    uses: tuple[UseRef, ...]
    serves: tuple[UseRef, ...]
    measured: tuple[str, ...]
    group: str
    per_channel: bool = False


@dataclass
class _Draft:
    uses: dict[UseRef, None] = field(default_factory=dict)
    serves: dict[UseRef, None] = field(default_factory=dict)
    measured: dict[str, None] = field(default_factory=dict)


MayShare = Callable[[Sequence[str]], bool]
"""Told the measured values of all parties, says whether one range suits them all."""


def place(
    graph: Graph, int8_ops: Iterable[str], may_share: MayShare, per_channel: Callable[[Node], bool]
) -> list[Slot]:
    """Slots for the activations of `int8_ops`, in topological order of their values.

    Args:
        graph: the model.
        int8_ops: convolutions and matrix products to run in int8.
        may_share: decides whether branches of a Concat get common parameters.
        per_channel: whether an op takes per-channel activations; then its input is quantized for it alone.
    """
    wanted = set(int8_ops)
    walker = _Walker(graph, {name for name in wanted if not per_channel(graph.node(name))})
    slots: list[Slot] = []
    drafts: dict[str, _Draft] = {}
    for node in graph.contractions:
        contraction = node.contraction
        if contraction is None or node.name not in wanted:
            continue
        for index in contraction.activation_inputs:
            value, use = node.inputs[index], UseRef(node=node.name, index=index)
            if per_channel(node):
                slots.append(Slot(value, (use,), (use,), (value,), f"{node.name}:{index}", True))
                continue
            draft = drafts.setdefault(walker.source(value), _Draft())
            draft.serves[use] = None
            draft.measured[value] = None
    for value, draft in drafts.items():
        draft.uses.update({UseRef(node=u.node, index=u.index): None for u in walker.quantized_uses(value)})
    return slots + _split_concats(graph, walker, drafts, may_share)


class _Walker:
    """Moves quantizers up through pass-through ops."""

    def __init__(self, graph: Graph, int8_ops: set[str]) -> None:
        self._graph = graph
        self._int8 = int8_ops
        self._memo: dict[str, bool] = {}

    def source(self, value: str) -> str:
        """The highest value at which a quantizer serves what reads `value`."""
        while True:
            producer = self._graph.producer(value)
            if producer.kind not in PASS_THROUGH or producer.kind is OpKind.CONCAT:
                return value
            if not self._passes(producer):
                return value
            above = producer.inputs[0]
            if self._graph.value(above).is_constant:
                return value
            value = above

    def quantized_uses(self, value: str) -> list[Use]:
        """Readers of `value` that want it quantized."""
        return [use for use in self._graph.value(value).uses if self._wants(use)]

    def all_quantized(self, value: str) -> bool:
        """Whether every reader of `value` that sees its numbers wants them quantized."""
        if value not in self._memo:
            uses = [u for u in self._graph.value(value).uses if self._reads_numbers(u)]
            self._memo[value] = bool(uses) and all(self._wants(use) for use in uses)
        return self._memo[value]

    def _reads_numbers(self, use: Use) -> bool:
        return self._graph.node(use.node).kind is not OpKind.SHAPE

    def _passes(self, node: Node) -> bool:
        used = [out for out in node.outputs if self._graph.value(out).uses]
        return bool(used) and not node.attrs.get("arithmetic") and all(self.all_quantized(out) for out in used)

    def _wants(self, use: Use) -> bool:
        node = self._graph.node(use.node)
        if node.contraction is not None:
            return node.name in self._int8 and use.index in node.contraction.activation_inputs
        if node.kind is OpKind.CONCAT:
            return False
        return node.kind in PASS_THROUGH and use.index == 0 and self._passes(node)


def _split_concats(graph: Graph, walker: _Walker, drafts: dict[str, _Draft], may_share: MayShare) -> list[Slot]:
    """Move quantizers that sit on a Concat onto its branches where one range suits them all."""
    groups = {value: value for value in drafts}
    for value in [v for v in drafts if graph.producer(v).kind is OpKind.CONCAT]:
        concat = graph.producer(value)
        draft = drafts[value]
        branches = [v for v in concat.inputs if graph.value(v).is_float]
        if not walker.all_quantized(value) or any(graph.value(v).is_constant for v in branches):
            continue
        kin = {_root(groups, branch) for branch in branches if branch in groups}
        parties = [v for root in kin for v in _measured(drafts, groups, root)]
        if not may_share([*branches, *parties, *draft.measured]):
            continue
        del drafts[value]
        for branch in branches:
            part = drafts.setdefault(branch, _Draft())
            part.serves.update(draft.serves)
            part.measured.update(draft.measured)
            for use in graph.value(branch).uses:
                if use.node == concat.name:
                    part.uses[UseRef(node=use.node, index=use.index)] = None
            groups[_root(groups, branch)] = _root(groups, value)
    order = {name: i for i, name in enumerate(graph.values)}
    return [
        Slot(value, tuple(d.uses), tuple(d.serves), tuple(d.measured), _root(groups, value))
        for value, d in sorted(drafts.items(), key=lambda item: order[item[0]])
    ]


def _root(groups: dict[str, str], value: str) -> str:
    while groups.setdefault(value, value) != value:
        value = groups[value]
    return value


def _measured(drafts: dict[str, _Draft], groups: dict[str, str], root: str) -> list[str]:
    return [v for value, d in drafts.items() if _root(groups, value) == root for v in d.measured]
