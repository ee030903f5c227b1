"""`make_plan`: graph, policy, statistics and candidate to a plan. Pure, and it runs no inference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.graph import Graph
from maxdrop.data.plan import Arrays, Candidate, QuantizationPlan
from maxdrop.data.spec import Form, Policy, Precision
from maxdrop.data.statistics import Statistics
from maxdrop.errors import ValidationError
from maxdrop.ptq.activation_quantizers import activation_quantizers, by_reader
from maxdrop.ptq.basis import Basis, data_inputs
from maxdrop.ptq.bias_shifts import bias_shifts
from maxdrop.ptq.outputs import output_quantizers
from maxdrop.ptq.payoff import choose_int8
from maxdrop.ptq.sums import sum_quantizers
from maxdrop.ptq.weight_quantizers import weight_quantizer

F32 = NDArray[np.float32]

REVERTED = "accuracy control: int8 here costs more of the metric than the limit allows"
WEIGHTS_ONLY = "accuracy control: int8 weights, float activations"


class Planner:
    """Everything that stays the same from candidate to candidate, with a memory of what was computed.

    Args:
        graph: the float model.
        policy: the resolved wishes.
        statistics: of every value in `calibration_requests(graph)`.
    """

    def __init__(self, graph: Graph, policy: Policy, statistics: Statistics) -> None:
        self.graph = graph
        self.policy = policy
        self.statistics = statistics
        self.arrays = Arrays()
        chosen, self._reasons = choose_int8(graph, policy)
        self.int8_ops = [op for op in chosen if self._is_measured(op)]
        self._memo: dict[object, Any] = {}
        self._measured_shifts: Mapping[str, F32] = {}

    def without(self, unprofitable: dict[str, str]) -> Planner:
        """A planner that keeps these ops float, each for its reason, and shares what was computed so far."""
        return self._like(self.policy.model_copy(update={"unprofitable": unprofitable}), self._measured_shifts)

    def with_bias_shifts(self, measured: Mapping[str, F32]) -> Planner:
        """A planner that corrects biases by these shifts, float32 (output channels,) by op, where it has one."""
        return self._like(self.policy, measured)

    def with_policy(self, policy: Policy) -> Planner:
        """A planner with other wishes for the same statistics; measured shifts belong to the old ones."""
        return self._like(policy, {})

    def with_forms(self, tuned: Mapping[str, Form]) -> Planner:
        """A planner in which the ops that read these values do so in these forms; the other ops stay as they are."""
        kept = {
            op: shift
            for op, shift in self._measured_shifts.items()
            if not set(data_inputs(self.graph.node(op))) & set(tuned)
        }
        return self._like(self.policy.model_copy(update={"tuned": {**self.policy.tuned, **tuned}}), kept)

    def _like(self, policy: Policy, measured: Mapping[str, F32]) -> Planner:
        other = Planner(self.graph, policy, self.statistics)
        other.arrays, other._memo, other._measured_shifts = self.arrays, self._memo, measured
        return other

    def __call__(self, candidate: Candidate) -> QuantizationPlan:
        """The plan for `candidate`; equal candidates give equal plans.

        Raises:
            ValidationError: when the candidate names an op that would not be int8 anyway.
        """
        unknown = sorted(candidate.precisions.keys() - set(self.int8_ops))
        if unknown:
            message = f"a candidate may name only ops that are int8 by default, but names {unknown}"
            raise ValidationError(message)
        precision = {op: candidate.precisions.get(op, Precision.INT8) for op in self.int8_ops}
        int8 = [op for op in self.int8_ops if precision[op] is Precision.INT8]
        basis = Basis(self.graph, self.policy, self.statistics, tuple(self.int8_ops), self.arrays, self._memo)
        activations = activation_quantizers(basis, int8)
        if self.policy.integer_sums:
            activations = activations + sum_quantizers(basis, activations, int8)
        stored = [op for op in self.int8_ops if precision[op] is not Precision.FLOAT]
        by_op = by_reader(activations)
        wanted = self.policy.quantize_outputs and int8
        outputs = output_quantizers(self.graph, self.policy.activations, self.statistics) if wanted else []
        weights = [q for op in stored if (q := weight_quantizer(basis, op, by_op.get(op))) is not None]
        reasons = dict(self._reasons)
        reasons.update({op: REVERTED for op in self.int8_ops if precision[op] is Precision.FLOAT})
        reasons.update({op: WEIGHTS_ONLY for op in self.int8_ops if precision[op] is Precision.INT8_WEIGHTS})
        return QuantizationPlan(
            graph=self.graph.fingerprint,
            policy=self.policy,
            candidate=candidate.with_precision({}),
            quantizers=tuple(activations + weights + outputs),
            edits=tuple(bias_shifts(basis, int8, by_op, self._measured_shifts)),
            int8_ops=tuple(int8),
            float_ops={node.name: reasons[node.name] for node in self.graph if node.name in reasons},
        )

    def _is_measured(self, op: str) -> bool:
        """Whether finite statistics exist for every data input; otherwise notes why the op stays float."""
        node = self.graph.node(op)
        for value in data_inputs(node):
            if value not in self.statistics:
                self._reasons[op] = f"no calibration sample reached its input {value}"
            elif not self.statistics[value].is_finite:
                self._reasons[op] = f"its input {value} held NaN or infinity during calibration"
            else:
                continue
            return False
        return True


def make_plan(
    graph: Graph, policy: Policy, statistics: Statistics, candidate: Candidate
) -> tuple[QuantizationPlan, Arrays]:
    """The plan for one candidate, and the arrays that it names."""
    planner = Planner(graph, policy, statistics)
    plan = planner(candidate)
    return plan, planner.arrays
