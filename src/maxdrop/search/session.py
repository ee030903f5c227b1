"""The phases of a search: float, all int8, ranking, and the strategy's candidates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from maxdrop.data.plan import Candidate
from maxdrop.data.spec import Precision
from maxdrop.data.trace import Note, Role, Trace, Trial
from maxdrop.ptq.build import Planner
from maxdrop.search.budget import Budget
from maxdrop.search.criterion import Criterion
from maxdrop.search.limits import Limits
from maxdrop.search.loop import best_passing, passes, run_search
from maxdrop.search.rejection import Rejection, make_rejection
from maxdrop.search.space import SearchSpace, Strategy

REPEATABLE = "repeatable"
SENSITIVITY = "sensitivity"
REJECTION = "early_rejection"

INTERRUPTED = "interrupted by the user"


class Executor(Protocol):
    """Where trials run."""

    def score_float(self) -> Trial:
        """The float model's trial."""

    def run(self, candidate: Candidate, role: Role, rule: Rejection | None = None) -> Trial:
        """The candidate's trial, from the trace if an equal plan was scored before."""

    def knows(self, candidate: Candidate) -> bool:
        """Whether `run` would answer from the trace."""


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
    """

    floating: Trial
    criterion: Criterion
    int8: Trial | None = None
    best: Trial | None = None
    reason: str = "nothing in this model is worth int8 on this target"


def search(executor: Executor, planner: Planner, trace: Trace, setup: Setup) -> Found:
    """Search for the fastest candidate within the limit.

    Whatever ends it, the best candidate so far is found; only errors of the user's function pass through.
    """
    floating = executor.score_float()
    found = Found(floating, setup.limits.for_strategies(floating))
    setup.limits.upper_is_known(floating)
    try:
        if REPEATABLE not in trace.notes:
            trace.add(Note(name=REPEATABLE, content=setup.compare_calls(floating)))
        if planner.int8_ops:
            _search(executor, planner, trace, setup, found)
    except KeyboardInterrupt:
        found.reason = INTERRUPTED
        found.best = best_passing(trace.trials, _space(planner, {}, setup, found), found.criterion)
    return found


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
    if SENSITIVITY not in trace.notes:
        trace.add(Note(name=SENSITIVITY, content=setup.rank()))
    space = _space(planner, trace.notes[SENSITIVITY], setup, found)
    rule = _rejection(trace, setup, found)
    found.reason = run_search(
        setup.strategy,
        space,
        found.criterion,
        lambda candidate, role: executor.run(candidate, role, rule),
        setup.budget,
        executor.knows,
        trace.trials,
    )
    found.best = best_passing(trace.trials, space, found.criterion)


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


def _space(planner: Planner, sensitivity: dict[str, float], setup: Setup, found: Found) -> SearchSpace:
    macs = {op: planner.graph.node(op).macs for op in planner.int8_ops}
    total = sum(macs.values()) or 1
    bound = None if found.int8 is None else found.int8.bound
    return SearchSpace(
        ops=tuple(planner.int8_ops),
        sensitivity=sensitivity,
        gain={op: count / total for op, count in macs.items()},
        reverted=setup.reverted,
        int8_drop=bound if bound is not None else 0.0,
    )
