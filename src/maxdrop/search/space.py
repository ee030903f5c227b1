"""What a strategy may choose from, and how it asks."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass

from maxdrop.data.plan import Candidate
from maxdrop.data.spec import Precision
from maxdrop.data.trace import Role, Trial
from maxdrop.search.criterion import Criterion


@dataclass(frozen=True)
class SearchSpace:
    """The ops that can be reverted, and what is known about each.

    Attributes:
        ops: names in topological order.
        sensitivity: share of the output error that an op causes when it alone is quantized.
        gain: share of the model's time that int8 saves on it.
        reverted: what a reverted op becomes.
        int8_drop: `bound` of the fully quantized model's trial.
        int8_error: its output error, where that is not the sum of `sensitivity`: the ops have been retuned since, and
            all of them together were not tried, because that was not expected to be enough.
    """

    ops: tuple[str, ...]
    sensitivity: dict[str, float]
    gain: dict[str, float]
    reverted: Precision
    int8_drop: float
    int8_error: float | None = None

    def candidate(self, floats: Iterable[str]) -> Candidate:
        """The candidate in which exactly `floats` are reverted."""
        return Candidate().with_precision({op: self.reverted for op in floats})

    def cost(self, candidate: Candidate) -> float:
        """Time that the candidate gives away, as a share of the model's; lower is faster."""
        return self.time(candidate.precisions)

    def time(self, ops: Iterable[str]) -> float:
        """Time that int8 saves on `ops`, as a share of the model's."""
        return sum(self.gain[op] for op in ops)

    def error(self, floats: Iterable[str]) -> float:
        """Predicted share of the output error that is left with `floats` reverted."""
        left = set(self.ops) - set(floats)
        return sum(self.sensitivity[op] for op in self.ops if op in left)


@dataclass(frozen=True)
class Proposal:
    """A candidate to evaluate next, and why.

    Attributes:
        candidate: what to build.
        role: what the trial is for.
        worth: expected gain over the best passing candidate so far, and over the float model while there is none, as
            a share of the model's time.
        left: about how many candidates, this one included, would settle every op that could save a worthwhile share;
            0 where there is no such op.
    """

    candidate: Candidate
    role: Role
    worth: float = math.inf
    left: int = 0


Steps = Generator[Proposal, Trial, None]
"""A search: yields proposals and is sent the trial of each. It must depend on nothing else, so that replaying a
trace leads to the same next proposal."""

Strategy = Callable[[SearchSpace, Criterion], Steps]
