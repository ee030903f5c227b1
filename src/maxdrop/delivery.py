"""From what a search found to what the user gets: build it, time it, score it on what was held out."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.graph import Graph
from maxdrop.data.plan import Candidate, QuantizationPlan
from maxdrop.data.spec import Precision
from maxdrop.data.trace import Note, Trial
from maxdrop.errors import ValidationError
from maxdrop.executors.materials import Materials
from maxdrop.result import AccuracyControlResult
from maxdrop.search.confidence import drop_interval, too_few_items
from maxdrop.search.forecast import Timings
from maxdrop.search.limits import Limits
from maxdrop.search.payoff import Payoff
from maxdrop.search.scoring import Scorer
from maxdrop.search.session import Found
from maxdrop.search.speed import Comparison, compare

_LATENCY_BLOCKS = 15
_COMPILATIONS = 3
_HOLDOUT = "holdout"

RESULT_TIMINGS = Timings(2, 2, 2 * _COMPILATIONS + 1, _LATENCY_BLOCKS)
"""The float model and the result; again in other compilations, and the float model once more, where int8 is slower."""

_HOPELESS = 3.0
"""How many times wider than the limit half the drop's interval is before the user is warned; above 1 the summary
says so."""


@dataclass(frozen=True)
class Delivery:
    """What is needed to make a result.

    Attributes:
        materials: of the result.
        limits: what may be lost.
        timing_config: the configuration in which models are timed.
        allow_slower: whether a result that is slower than the float model is wanted.
        held_out: scores a compiled model on the items that the search did not see; None if there are none.
        deadline: `time.monotonic()` after which nothing is timed a second time; None for no limit.
        timed: what was timed just now, before the search; None where nothing was, or ops had other forms.
    """

    materials: Materials[Any]
    limits: Limits
    timing_config: Mapping[str, Any]
    allow_slower: bool
    held_out: Scorer | None
    deadline: float | None
    timed: Payoff | None


def deliver(delivery: Delivery, found: Found, samples: Sequence[Any]) -> AccuracyControlResult:
    """The result of a search; the float model where nothing passed or int8 is slower.

    Args:
        delivery: what it is made with.
        found: the search's outcome.
        samples: inputs of the model, to time it with.
    """
    best, reason = found.best, found.reason
    model, plan, latency = _build(delivery, best, samples)
    if best is not None and latency.is_slower and not delivery.allow_slower:
        reason = f"int8 is slower than float here ({latency.speedup:.2f}x); allow_slower=True returns it all the same"
        best = None
        model, plan, latency = _build(delivery, None, samples)
    floating, chosen = found.floating, best if best is not None else found.floating
    single = delivery.limits.single
    interval = None
    if single is not None and floating.metric is not None and chosen.metric is not None:
        interval = drop_interval(
            floating.per_item, chosen.per_item, floating.metric, chosen.metric, single, seed=delivery.limits.seed
        )
    return AccuracyControlResult(
        model=model,
        reached=best is not None,
        stop_reason=reason,
        metric=_number(chosen.metric),
        float_metric=_number(floating.metric),
        drop=chosen.drop if chosen.drop is not None else 0.0,
        int8_drop=found.int8.drop if found.int8 is not None else None,
        drop_interval=interval,
        latency=latency,
        plan=plan,
        arrays=delivery.materials.planner.arrays,
        trace=delivery.materials.trace,
        backend=delivery.materials.backend,
        int8_macs_share=_int8_share(delivery.materials.planner.graph, plan),
        drop_upper=chosen.upper,
        holdout_drop=_holdout_drop(delivery, best, model, plan),
        metrics=chosen.metrics or {},
        float_metrics=floating.metrics or {},
        drops={} if single is not None else delivery.limits.drops(chosen, floating),
        notes=_notes(interval, found),
    )


def _int8_share(graph: Graph, plan: QuantizationPlan) -> float:
    total = sum(node.macs for node in graph) or 1
    return sum(graph.node(op).macs for op in plan.int8_ops) / total


def _number(metric: float | None) -> float:
    return float("nan") if metric is None else metric


def _build(delivery: Delivery, best: Trial | None, samples: Sequence[Any]) -> tuple[Any, QuantizationPlan, Comparison]:
    """Model, plan and latency of the best trial; of the float model when there is none."""
    materials = delivery.materials
    floats = dict.fromkeys(materials.planner.int8_ops, Precision.FLOAT)
    candidate = best.candidate if best is not None else None
    plan = materials.planner(candidate if candidate is not None else Candidate().with_precision(floats))
    result = materials.build(plan)
    known = None
    if delivery.timed is not None and (best is None or _is_plain(plan)):
        known = delivery.timed.speed_of(plan.int8_ops)
    models = [materials.model] if best is None else [materials.model, result]
    return result, plan, known or _compare(delivery, models, samples)


def _is_plain(plan: QuantizationPlan) -> bool:
    """Whether no op of the plan was reverted or retuned."""
    return not plan.candidate.precisions and not plan.policy.tuned


def _compare(delivery: Delivery, models: list[Any], samples: Sequence[Any]) -> Comparison:
    """Latency of the first model against the last; a verdict of "slower" must survive other compilations.

    Two compilations of one model can differ by some percent, for as long as they live. There are no others where
    nothing follows from the verdict, or the time is over.
    """
    rounds: list[NDArray[np.float64]] = []
    for _ in range(_COMPILATIONS):
        rounds.append(delivery.materials.backend.latency(models, delivery.timing_config, samples, _LATENCY_BLOCKS))
        comparisons = [compare(blocks[0], blocks[-1]) for blocks in rounds]
        is_late = delivery.deadline is not None and time.monotonic() >= delivery.deadline
        if not comparisons[-1].is_slower or delivery.allow_slower or is_late:
            return comparisons[-1]
    blocks = np.concatenate(rounds, axis=1)
    return compare(blocks[0], blocks[-1])


def _holdout_drop(delivery: Delivery, best: Trial | None, model: Any, plan: QuantizationPlan) -> float | None:
    """Drop on the items that the search did not see, scored once for a trace and a plan.

    None without such items, and where a relative drop has no meaning because the float model scores 0 on them.
    """
    if delivery.held_out is None:
        return None
    if best is None:
        return 0.0
    materials = delivery.materials
    note = materials.trace.notes.get(_HOLDOUT, {})
    if note.get("plan_key") != plan.key():
        scorer = delivery.held_out
        before = scorer.whole(materials.compile(materials.model))
        after = scorer.whole(materials.compile(model))
        floating = Trial(number=0, role="float", candidate=None, metric=before.metric, metrics=before.metrics)
        try:
            drop: float | None = delivery.limits.without_floors().drop(after, floating)
        except ValidationError as error:  # nothing to take a share of, which is no reason to lose the result
            warnings.warn(f"the drop on the held-out items is not known: {error}", stacklevel=4)
            drop = None
        note = {"plan_key": plan.key(), "float_metric": before.metric, "metric": after.metric, "drop": drop}
        materials.trace.add(Note(name=_HOLDOUT, content=note))
    return None if note["drop"] is None else float(note["drop"])


def _notes(interval: tuple[float, float] | None, found: Found) -> tuple[str, ...]:
    """What the user should know about how far the result can be trusted; warns of the worst."""
    limit = found.criterion.max_drop
    times = too_few_items(interval, limit) if found.best is not None and limit > 0.0 else 0.0
    if times <= 1.0 or interval is None:
        return ()
    half = (interval[1] - interval[0]) / 2
    text = (
        f"the validation items cannot tell a drop of {limit:.4g} from none: the measured drop is "
        f"known only to within {half:.4g}. About {math.ceil(times * times)} times as many items could"
    )
    if times > _HOPELESS:
        warnings.warn(f"{text}; validate on more of them, or allow a larger drop", stacklevel=5)
    return (text,)
