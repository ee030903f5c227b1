"""What all plans of a planner rest on, and a memory of what was computed from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from maxdrop.data.graph import Graph, Node
from maxdrop.data.plan import Arrays
from maxdrop.data.spec import Policy, QuantizerSpec
from maxdrop.data.statistics import Statistics, TensorStatistics
from maxdrop.errors import InternalError
from maxdrop.ptq.payoff import is_first_layer
from maxdrop.ptq.smooth_quant import channel_axis
from maxdrop.ptq.weights import weight_spec

T = TypeVar("T")


@dataclass(frozen=True)
class Basis:
    """What does not depend on the candidate.

    Attributes:
        graph: the float model.
        policy: the resolved wishes.
        statistics: of every value in `calibration_requests(graph)`.
        int8_ops: int8 unless a candidate says otherwise.
        arrays: where what plans name is put.
        memo: what was computed, under other policies too, so a key has to hold all that its value depends on.
    """

    graph: Graph
    policy: Policy
    statistics: Statistics
    int8_ops: tuple[str, ...]
    arrays: Arrays
    memo: dict[object, Any]

    @cached_property
    def _int8(self) -> frozenset[str]:
        return frozenset(self.int8_ops)

    def remember(self, key: object, make: Callable[[], T]) -> T:
        """What `make` gives; it is called once for a key."""
        if key not in self.memo:
            self.memo[key] = make()
        found: T = self.memo[key]
        return found

    def int8_readers(self, value: str) -> list[Node]:
        """The ops that read `value` directly and are int8 unless a candidate says otherwise."""
        return [self.graph.node(use.node) for use in self.graph.value(value).uses if use.node in self._int8]

    def is_first_layer(self, node: Node) -> bool:
        """`payoff.is_first_layer`, which walks up the graph, asked once for each op."""
        return self.remember(("first layer", node.name), lambda: is_first_layer(self.graph, node))

    def input_statistics(self, node: Node) -> TensorStatistics:
        """Statistics of what an op with a weight reads, with the channels that it sums over."""
        return self.statistics.along(data_inputs(node)[0], channel_axis(node))

    def weight_spec(self, node: Node) -> QuantizerSpec:
        """The form of the quantizer of the op's constant operand."""
        reduced = self.policy.reduced_range == "all" or (
            self.policy.reduced_range == "first" and self.is_first_layer(node)
        )
        return weight_spec(node, self.policy.weights, reduced)


def data_inputs(node: Node) -> list[str]:
    """The values that a convolution or matrix product reads as data."""
    if node.contraction is None:
        message = f"{node.name} is no convolution or matrix product"
        raise InternalError(message)
    return [node.inputs[index] for index in node.contraction.activation_inputs]
