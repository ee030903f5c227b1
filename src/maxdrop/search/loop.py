"""The only loop: ask the strategy, evaluate, tell it, until it has nothing left to ask."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from maxdrop.data.plan import Candidate
from maxdrop.data.trace import Role, Trial
from maxdrop.search.criterion import Criterion
from maxdrop.search.space import SearchSpace, Strategy

Evaluate = Callable[[Candidate, Role], Trial]


@dataclass(frozen=True)
class Budget:
    """What ends a search early.

    Attributes:
        max_evaluations: most candidates to evaluate.
        deadline: `time.monotonic()` after which no further candidate starts; None for no limit.
    """

    max_evaluations: int
    deadline: float | None = None

    def spent(self, evaluations: int) -> str | None:
        """Why the search must stop, or None."""
        if evaluations >= self.max_evaluations:
            return f"the limit of {self.max_evaluations} candidates was reached"
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "the time budget was spent"
        return None


def run_search(
    strategy: Strategy,
    space: SearchSpace,
    criterion: Criterion,
    evaluate: Evaluate,
    budget: Budget,
    known: Callable[[Candidate], bool],
) -> str:
    """Drive `strategy` to its end, or until the budget is spent or the user interrupts.

    Args:
        strategy: what to try next.
        space: what it chooses from.
        criterion: the limit.
        evaluate: builds and scores a candidate, and appends the trial to the trace.
        budget: what ends the search early.
        known: whether a candidate's trial is already in the trace; such a step costs nothing.

    Returns:
        Why the search ended.
    """
    steps = strategy(space, criterion)
    evaluations = 0
    try:
        proposal = next(steps)
        while True:
            if not known(proposal.candidate):
                reason = budget.spent(evaluations)
                if reason is not None:
                    return reason
            evaluations += 1
            proposal = steps.send(evaluate(proposal.candidate, proposal.role))
    except StopIteration:
        return "the search was complete"
    except KeyboardInterrupt:
        return "interrupted by the user"


def best_passing(trials: list[Trial], space: SearchSpace, criterion: Criterion) -> Trial | None:
    """The fastest trial within the limit; of equally fast ones that with the smallest drop."""
    passing = [
        t
        for t in trials
        if t.candidate is not None and t.state == "complete" and t.drop is not None and criterion.passes(t.drop)
    ]
    if not passing:
        return None
    return min(passing, key=lambda t: (space.cost(t.candidate or Candidate()), t.drop, t.number))
