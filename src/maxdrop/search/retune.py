"""The rung of the ladder below float: int8 again, in another form.

Each of the most sensitive ops is measured in a few other forms, alone and against the float output, as it was when
it was ranked; only the switches are compiled, not a model for each form. What is kept is data for the planner, so a
plan stays a pure function of its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import Field

from maxdrop.data.plan import Candidate
from maxdrop.data.protocols import Backend
from maxdrop.data.schema import Frozen
from maxdrop.data.spec import Form, Policy
from maxdrop.ptq.build import Planner
from maxdrop.ptq.rounding import MOST_CHANNELS
from maxdrop.search.forms import Cluster, clusters, most_sensitive, worth_measuring
from maxdrop.search.reference import Reference
from maxdrop.search.sensitivity import add_weight_error, op_noise, output_distance

MOST_OPS = 20
SHARE = 0.95
"""The ops that are retuned: those with this share of the predicted error, and no more than so many."""

LEAST_FALL = 0.3
"""Share by which an op's sensitivity must fall: less is within what a few samples can tell, or not worth a note."""

_WEIGHTS_COUNT = 0.25
"""Share of the error that weights must have before they are rounded anew."""


class Retuned(Frozen):
    """What came of retuning.

    Attributes:
        forms: by value; empty where nothing was better.
        sensitivity: of every op, in its new form where it has one.
        measured: forms that were measured.
        forwards: inferences that it took.
        error_before: output error of the fully quantized model on samples of their own; None if it was not asked for.
        error_after: the same with the new forms.
    """

    forms: dict[str, Form] = Field(default_factory=dict)
    sensitivity: dict[str, float]
    measured: int = 0
    forwards: int = 0
    error_before: float | None = None
    error_after: float | None = None


def retune(
    planner: Planner,
    wishes: Policy,
    backend: Backend[Any],
    model: Any,
    config: Mapping[str, Any],
    sensitivity: Mapping[str, float],
    samples: Sequence[Any],
    unseen: Sequence[Any],
    progress: Callable[[int], None],
) -> Retuned:
    """Look for better forms of the most sensitive ops.

    Costs (ops + 1) forwards for each of `VARIANTS` forms and each sample, and three for each unseen sample.

    Args:
        planner: as the ops were ranked with.
        wishes: of the user; what they decide is not tried otherwise.
        backend: of the model.
        model: the float model.
        config: the user's compile configuration, for the check on unseen samples.
        sensitivity: of every int8 op.
        samples: those that ranked the ops.
        unseen: further calibration samples, on which the outputs must be better with all new forms together.
        progress: called with the number of forwards that are done.
    """
    plan = planner(Candidate())
    chosen = most_sensitive(clusters(planner.graph, plan), sensitivity, MOST_OPS, SHARE)
    forms = worth_measuring(planner, chosen, wishes)
    judge = _Judge(planner, backend, model, samples, progress)
    best = {cluster: (sum(sensitivity[op] for op in cluster.ops), Form()) for cluster in chosen}
    found = dict(sensitivity)
    for number in range(max((len(each) for each in forms), default=0)):
        tried = {c: each[number] for c, each in zip(chosen, forms, strict=True) if number < len(each)}
        measured = judge({value: form for c, form in tried.items() for value in c.values}, list(tried))
        for cluster, form in tried.items():
            error = sum(measured[op] for op in cluster.ops)
            if error < best[cluster][0]:
                best[cluster] = error, form
                found.update({op: measured[op] for op in cluster.ops})
    kept = {c: form for c, (error, form) in best.items() if error <= (1.0 - LEAST_FALL) * _sum(sensitivity, c)}
    found = {op: found[op] if any(op in c.ops for c in kept) else sensitivity[op] for op in sensitivity}
    tuned = {value: form for cluster, form in kept.items() for value in cluster.values}
    tuned, found = _round_weights(planner, chosen, tuned, found)
    result = Retuned(forms=tuned, sensitivity=found, measured=sum(len(each) for each in forms), forwards=judge.forwards)
    if not tuned:
        return result
    reference = Reference(backend, model, config, unseen)
    before, after = (float(reference.errors(each).mean()) for each in (planner, planner.with_forms(tuned)))
    progress(judge.forwards + 3 * len(unseen))
    return result.model_copy(
        update={
            "forms": tuned if after < before else {},
            "sensitivity": found if after < before else dict(sensitivity),
            "forwards": judge.forwards + 3 * len(unseen),
            "error_before": before,
            "error_after": after,
        }
    )


def _sum(sensitivity: Mapping[str, float], cluster: Cluster) -> float:
    return sum(sensitivity[op] for op in cluster.ops)


class _Judge:
    """Sensitivities of ops in other forms, with the forwards counted."""

    def __init__(
        self,
        planner: Planner,
        backend: Backend[Any],
        model: Any,
        samples: Sequence[Any],
        progress: Callable[[int], None],
    ) -> None:
        self._planner, self._backend, self._model = planner, backend, model
        self._samples, self._progress = samples, progress
        self.forwards = 0

    def __call__(self, tuned: Mapping[str, Form], chosen: Sequence[Cluster]) -> dict[str, float]:
        plan = self._planner.with_forms(tuned)(Candidate())
        ops = [op for cluster in chosen for op in cluster.ops]
        switchable = self._backend.switchable(self._model, plan)
        totals = dict.fromkeys(ops, 0.0)
        for sample in self._samples:
            reference = switchable.run(sample, ())
            for op in ops:
                totals[op] += output_distance(reference, switchable.run(sample, (op,)))
            self.forwards += len(ops) + 1
            self._progress(self.forwards)
        means = {op: total / len(self._samples) for op, total in totals.items()}
        return add_weight_error(means, self._planner.graph, plan, self._planner.statistics)


def _round_weights(
    planner: Planner, chosen: Sequence[Cluster], tuned: Mapping[str, Form], sensitivity: Mapping[str, float]
) -> tuple[dict[str, Form], dict[str, float]]:
    """Round weights anew where they make a good part of an op's error.

    The rounding decides by itself, on rows that it did not see, whether it is better: no forward is needed.
    """
    if planner.policy.weights.rounding != "nearest":
        return dict(tuned), dict(sensitivity)
    current = planner.with_forms(tuned)
    ops = [op for cluster in chosen for op in cluster.ops if _is_roundable(planner, op)]
    before = op_noise(planner.graph, current(Candidate()), planner.statistics, planner.arrays, ops)
    heavy = {op for op, (activations, weights) in before.items() if weights >= _WEIGHTS_COUNT * (activations + weights)}
    rounded = dict(tuned)
    for cluster in chosen:
        if heavy & set(cluster.ops):
            for value in cluster.values:
                rounded[value] = rounded.get(value, Form()).model_copy(update={"rounding": "gptq"})
    plan = planner.with_forms(rounded)(Candidate())
    better = {q.serves[0].node for q in plan.quantizers if q.constant and q.codes is not None}
    after = op_noise(planner.graph, plan, planner.statistics, planner.arrays, ops)
    found = dict(sensitivity)
    for op in better & set(ops):
        total = sum(before[op])
        found[op] *= sum(after[op]) / total if total > 0.0 else 1.0
    kept = {value for cluster in chosen if better & set(cluster.ops) for value in cluster.values}
    return {
        value: form if value in kept else tuned[value] for value, form in rounded.items() if value in kept | set(tuned)
    }, found


def _is_roundable(planner: Planner, op: str) -> bool:
    """Whether rounding its weight anew is possible and takes seconds rather than minutes."""
    node = planner.graph.node(op)
    if node.contraction is None or node.contraction.weight_input is None or node.contraction.groups != 1:
        return False
    shape = planner.graph.value(node.inputs[node.contraction.weight_input]).shape or ()
    channels = shape[node.contraction.weight_channel_axis] or 0
    return channels <= MOST_CHANNELS // 2
