"""The phases of a search: float, all int8, ranking, and the strategy's candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from maxdrop.data.plan import Candidate, QuantizationPlan
from maxdrop.data.spec import Precision
from maxdrop.data.trace import Note, Role, Trace, Trial
from maxdrop.ptq.build import Planner
from maxdrop.search.budget import OUT_OF_TIME, Budget, OutOfTimeError
from maxdrop.search.criterion import Criterion
from maxdrop.search.curve import DropCurve
from maxdrop.search.gain import gain_by_op
from maxdrop.search.limits import Limits
from maxdrop.search.loop import best_passing, passes, run_search
from maxdrop.search.rejection import Rejection, make_rejection
from maxdrop.search.retune import Retuned
from maxdrop.search.space import SearchSpace, Strategy

REPEATABLE = "repeatable"
SENSITIVITY = "sensitivity"
GAIN = "gain"
RETUNED = "retuned"
REJECTION = "early_rejection"

INTERRUPTED = "interrupted by the user"

_PROMISING = 0.3
"""Least chance of the limit at which all retuned ops together are worth a validation."""

_LITTLE = 0.1
"""Share of the output error that is so little that they are worth one whatever the limit."""


class Executor(Protocol):
    """Where trials run."""

    def follow(self, planner: Planner) -> None:
        """Make plans with this planner from now on."""

    def score_float(self) -> Trial:
        """The float model's trial."""

    def run(self, candidate: Candidate, role: Role, rule: Rejection | None = None) -> Trial:
        """The candidate's trial, from the trace if an equal plan was scored before."""

    def knows(self, candidate: Candidate) -> bool:
        """Whether `run` would answer from the trace."""

    def confirm(self, trial: Trial) -> Trial:
        """The trial as measured by one call on all items; a new one where that gives another metric."""

    def sensitivity(
        self, plan: QuantizationPlan, samples: Sequence[Any], progress: Callable[[int], None]
    ) -> dict[str, float]:
        """Output NMSE with each op of the plan alone quantized, averaged over the samples."""

    def close(self) -> None:
        """End what runs beside this process."""


@dataclass(frozen=True)
class Setup:
    """What a search is made of.

    Attributes:
        strategy: what to try.
        limits: what may be lost.
        budget: what ends the search early.
        reverted: what a reverted op becomes.
        positions: number of validation items that can be taken by position; None if they cannot.
        seed: of the order of the items.
        compare_calls: scores a few items twice, given the float trial; see `compare_two_calls`.
        rank: measures the sensitivity of every op.
        retune: looks for better int8 forms, given the sensitivities; None leaves the ops as they are.
        gain: what every op is worth in int8.
        scored_int8: called once the fully quantized model was scored.
    """

    strategy: Strategy
    limits: Limits
    budget: Budget
    reverted: Precision
    positions: int | None
    seed: int
    compare_calls: Callable[[Trial], dict[str, Any]]
    rank: Callable[[], dict[str, float]]
    retune: Callable[[dict[str, float]], Retuned] | None
    gain: Callable[[], dict[str, float]]
    scored_int8: Callable[[], None]


@dataclass
class Found:
    """What a search has come to so far.

    Attributes:
        floating: the float model's trial.
        criterion: the limit on `Trial.bound`.
        int8: the trial of the fully quantized model.
        best: the fastest trial within the limit.
        reason: why the search ended.
        planner: makes the plan of the best trial.
        retuned: the forms that `planner` has beyond what the search began with; None where it has none.
        tried: the trial of the fully quantized model in these forms.
    """

    floating: Trial
    criterion: Criterion
    planner: Planner
    int8: Trial | None = None
    best: Trial | None = None
    reason: str = "nothing in this model is worth int8 on this target"
    retuned: Retuned | None = None
    tried: Trial | None = None


def search(executor: Executor, planner: Planner, trace: Trace, setup: Setup) -> Found:
    """Search for the fastest candidate within the limit.

    Whatever ends it, the best candidate so far is found; only errors of the user's function pass through.
    """
    floating = executor.score_float()
    found = Found(floating, setup.limits.for_strategies(floating), planner)
    setup.limits.upper_is_known(floating)
    try:
        if REPEATABLE not in trace.notes:
            trace.add(Note(name=REPEATABLE, content=setup.compare_calls(floating)))
        if planner.int8_ops:
            _search(executor, planner, trace, setup, found)
    except KeyboardInterrupt:
        found.reason = INTERRUPTED
        found.best = best_passing(_own(trace.trials, found), _space(trace, setup, found), found.criterion)
    _confirm(executor, trace, setup, found)
    return found


def _confirm(executor: Executor, trace: Trace, setup: Setup, found: Found) -> None:
    """Make sure of the best trial, and take the next best one should it miss the limit after all."""
    missed: set[str] = set()
    while found.best is not None:
        confirmed = executor.confirm(found.best)
        if passes(confirmed, found.criterion):
            found.best = confirmed
            return
        missed.add(confirmed.plan_key)
        left = [trial for trial in _own(trace.trials, found) if trial.plan_key not in missed]
        found.best = best_passing(left, _space(trace, setup, found), found.criterion)


def _own(trials: Sequence[Trial], found: Found) -> list[Trial]:
    """The trials of models that `found.planner` makes."""
    return [t for t in trials if t.candidate is not None and found.planner(t.candidate).key() == t.plan_key]


def _search(executor: Executor, planner: Planner, trace: Trace, setup: Setup, found: Found) -> None:
    late = None if executor.knows(Candidate()) else setup.budget.out_of_time(trace.trials)
    if late is not None:
        found.reason = late
        return
    found.int8 = executor.run(Candidate(), "int8")
    setup.scored_int8()
    if passes(found.int8, found.criterion):
        found.best, found.reason = found.int8, "the fully quantized model is within the limit"
        return
    found.reason = _begun(planner, trace, setup) or ""
    if found.reason:
        return
    try:
        if SENSITIVITY not in trace.notes:
            trace.add(Note(name=SENSITIVITY, content=setup.rank()))
    except OutOfTimeError:
        found.reason = OUT_OF_TIME
        return
    if GAIN not in trace.notes:
        trace.add(Note(name=GAIN, content=setup.gain()))
    rule = _rejection(trace, setup, found)
    if _climb(executor, trace, setup, found, rule):
        return
    space = _space(trace, setup, found)
    found.reason = run_search(
        setup.strategy,
        space,
        found.criterion,
        lambda candidate, role: executor.run(candidate, role, rule),
        setup.budget,
        executor.knows,
        trace.trials,
    )
    found.best = best_passing(_own(trace.trials, found), space, found.criterion)


def _climb(executor: Executor, trace: Trace, setup: Setup, found: Found, rule: Rejection | None) -> bool:
    """The rung below float: the most sensitive ops in other int8 forms. Whether that alone is enough.

    All ops together are tried where they may pass by prediction. Should the metric dislike the new forms, they are
    given up.
    """
    sensitivity = trace.notes[SENSITIVITY]
    retuned = _retuned(trace, setup, sensitivity)
    if retuned is None or not retuned.forms or found.int8 is None or found.int8.bound is None:
        return False
    plain = found.planner
    found.planner, found.retuned = plain.with_forms(retuned.forms), retuned
    executor.follow(found.planner)
    left = _error_left(retuned, sensitivity)
    chance = DropCurve(found.int8.bound, 1.0).chance(left, found.criterion.max_drop, None)
    promising = chance >= _PROMISING or left <= _LITTLE
    if not executor.knows(Candidate()) and not (promising and setup.budget.spent(trace.trials) is None):
        return False
    trial = executor.run(Candidate(), "search", rule)
    if passes(trial, found.criterion):
        found.best = trial
        found.reason = "the fully quantized model is within the limit, with some ops in other int8 forms"
        return True
    if trial.bound is not None and trial.bound > found.int8.bound:
        found.planner, found.retuned = plain, None
        executor.follow(plain)
    else:
        found.tried = trial
    return False


def _retuned(trace: Trace, setup: Setup, sensitivity: dict[str, float]) -> Retuned | None:
    """What retuning came to, once for a trace; None where it is not wanted or took too long."""
    if setup.retune is None:
        return None
    try:
        if RETUNED not in trace.notes:
            trace.add(Note(name=RETUNED, content=setup.retune(sensitivity).model_dump(mode="json")))
    except OutOfTimeError:
        return None
    return Retuned.model_validate(trace.notes[RETUNED])


def _error_left(retuned: Retuned, before: Mapping[str, float]) -> float:
    """Share of the fully quantized model's output error that retuning leaves, at best."""
    shares = [(sum(retuned.sensitivity.values()), sum(before.values()))]
    if retuned.error_before is not None and retuned.error_after is not None:
        shares.append((retuned.error_after, retuned.error_before))
    return min((after / total for after, total in shares if total > 0.0), default=1.0)


def _begun(planner: Planner, trace: Trace, setup: Setup) -> str | None:
    """Why no candidate may be tried at all, so that ranking would be in vain; None to go on."""
    if len(planner.int8_ops) < 2:
        return "the model has a single op in int8, and with that it is beyond the limit"
    resumed = any(t.role in ("search", "prune") for t in trace.trials)
    return None if resumed else setup.budget.spent(trace.trials)


def _rejection(trace: Trace, setup: Setup, found: Found) -> Rejection | None:
    """The rule for early rejection; the trace says whether and why not."""
    single, full = setup.limits.single, [t for t in (found.floating, found.int8) if t is not None]
    rule: Rejection | str = "there are several metrics"
    if single is not None:
        limit = single.model_copy(update={"max_drop": found.criterion.max_drop})
        rule = make_rejection(full, limit, setup.positions, trace.notes.get(REPEATABLE, {}), setup.seed)
    used = not isinstance(rule, str)
    if REJECTION not in trace.notes:
        trace.add(Note(name=REJECTION, content={"used": used, "reason": "" if used else rule}))
    return None if isinstance(rule, str) else rule


def _space(trace: Trace, setup: Setup, found: Found) -> SearchSpace:
    planner, before = found.planner, trace.notes.get(SENSITIVITY, {})
    tried = found.int8 if found.tried is None else found.tried
    bound = None if tried is None else tried.bound
    return SearchSpace(
        ops=tuple(planner.int8_ops),
        sensitivity=before if found.retuned is None else found.retuned.sensitivity,
        gain=trace.notes.get(GAIN) or gain_by_op(planner.graph, planner.int8_ops, "latency"),
        reverted=setup.reverted,
        int8_drop=bound if bound is not None else 0.0,
        int8_error=None if found.retuned is None or found.tried is not None else sum(before.values()),
    )
