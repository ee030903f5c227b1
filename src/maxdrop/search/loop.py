"""The only loop: ask the strategy, evaluate, tell it, until it has nothing left to ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from maxdrop.data.plan import Candidate
from maxdrop.data.trace import Role, Trial
from maxdrop.search.budget import Budget
from maxdrop.search.criterion import Criterion
from maxdrop.search.space import SearchSpace, Strategy

Evaluate = Callable[[Candidate, Role], Trial]

COMPLETE = "the search was complete"

WORTHWHILE = 0.02
"""Share of the model's work that a validation beyond the budget's patience must be expected to save."""


def run_search(
    strategy: Strategy,
    space: SearchSpace,
    criterion: Criterion,
    evaluate: Evaluate,
    budget: Budget,
    known: Callable[[Candidate], bool],
    trials: Sequence[Trial],
) -> str:
    """Drive `strategy` to its end, or until the budget is spent.

    Args:
        strategy: what to try next.
        space: what it chooses from.
        criterion: the limit.
        evaluate: builds and scores a candidate, and appends the trial to the trace.
        budget: what ends the search early.
        known: whether a candidate's trial is already in the trace; such a step costs nothing.
        trials: those of the trace, which `evaluate` adds to.

    Returns:
        Why the search ended.
    """
    steps = strategy(space, criterion)
    try:
        proposal = next(steps)
        while True:
            if not known(proposal.candidate):
                settles = proposal.left > 0 and budget.lasts(proposal.left, trials)
                if proposal.worth < WORTHWHILE and not settles and budget.used(trials) >= budget.patience:
                    return f"{COMPLETE}: no further validation is expected to save {WORTHWHILE:.0%} of the work"
                reason = budget.spent(trials)
                if reason is not None:
                    return reason
            proposal = steps.send(evaluate(proposal.candidate, proposal.role))
    except StopIteration:
        return COMPLETE


def passes(trial: Trial, criterion: Criterion) -> bool:
    """Whether a trial is within the limit, on all items."""
    return trial.state == "complete" and trial.bound is not None and criterion.passes(trial.bound)


def best_passing(trials: Sequence[Trial], space: SearchSpace, criterion: Criterion) -> Trial | None:
    """The fastest trial within the limit; of equally fast ones that with the smallest drop."""
    passing = [t for t in trials if t.candidate is not None and passes(t, criterion)]
    if not passing:
        return None
    return min(passing, key=lambda t: (space.cost(t.candidate or Candidate()), t.bound, t.number))
