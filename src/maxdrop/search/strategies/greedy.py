"""One more op in float after another, the most sensitive first, until the limit holds: what other tools do.

It needs as many validations as there are ops to revert and never quantizes one again; it is here to compare with.
"""

from __future__ import annotations

from maxdrop.search.criterion import Criterion
from maxdrop.search.space import Proposal, SearchSpace, Steps


def greedy(space: SearchSpace, criterion: Criterion) -> Steps:
    """The strategy of tools that revert one op at a time; all ops in float is the float model, so it is not tried."""
    order = sorted(space.ops, key=lambda op: -space.sensitivity[op])
    for count in range(1, len(order)):
        trial = yield Proposal(space.candidate(order[:count]), "search")
        if trial.state == "complete" and trial.bound is not None and criterion.passes(trial.bound):
            return
