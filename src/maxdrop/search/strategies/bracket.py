"""Order the ops once, find by bracketing how many must be float, then give back what need not be.

Ops are ordered by output error removed per time lost, which solves the relaxed knapsack. Along this order the drop
falls, apart from noise, from that of the int8 model to that of the float model; the crossing of the limit is found
from a predicted start by interpolation and bisection. Reverted ops mask each other's errors, so afterwards blocks of
them are quantized again wherever the limit allows it.
"""

from __future__ import annotations

from collections.abc import Generator

from maxdrop.data.trace import Trial
from maxdrop.search.criterion import Criterion
from maxdrop.search.space import Proposal, SearchSpace, Steps

_AIM = 0.85
"""Share of the limit that the first prediction aims at."""

_PREDICTIONS = 2
"""Steps that trust the prediction; later ones halve the bracket."""


def bracket(space: SearchSpace, criterion: Criterion) -> Steps:
    """The default strategy; the caller has already seen that the fully quantized model fails."""
    order = removal_order(space)
    kept = yield from _first_passing(space, criterion, order)
    yield from _prune(space, criterion, order[:kept])


def removal_order(space: SearchSpace) -> list[str]:
    """Ops by error removed per time lost, the best first; ties in topological order."""
    floor = 0.1 / max(len(space.ops), 1)  # converting at the border of a float op costs time too
    return sorted(space.ops, key=lambda op: -space.sensitivity[op] / (space.gain[op] + floor))


def _first_passing(space: SearchSpace, criterion: Criterion, order: list[str]) -> Generator[Proposal, Trial, int]:
    """Fewest leading ops of `order` that have to be float, as far as the bracket tells."""
    failing, passing = 0, len(order)
    points = [(space.error(()), space.int8_drop)]
    step = 0
    while passing - failing > 1:
        guess = _predict(space, order, points, criterion.max_drop) if step < _PREDICTIONS else None
        middle = (failing + passing) // 2
        count = middle if guess is None else min(max(guess, failing + 1), passing - 1)
        trial = yield Proposal(space.candidate(order[:count]), "search")
        if trial.drop is not None and criterion.passes(trial.drop):
            passing = count
        else:
            failing = count
        if trial.drop is not None:
            points.append((space.error(order[:count]), trial.drop))
        step += 1
    return passing


def _predict(space: SearchSpace, order: list[str], points: list[tuple[float, float]], max_drop: float) -> int | None:
    """Smallest count whose predicted drop is within the limit, with the drop proportional to the error left."""
    error, drop = points[-1]
    if drop <= 0.0 or error <= 0.0:
        return None
    for count in range(1, len(order)):
        if space.error(order[:count]) / error * drop <= _AIM * max_drop:
            return count
    return None


def _prune(space: SearchSpace, criterion: Criterion, floats: list[str]) -> Steps:
    """Quantize reverted ops again, in halving blocks, the largest gain for the least error first.

    Ends when no single op can be quantized again (ddmin: Zeller and Hildebrandt, 2002).
    """
    worth = sorted(floats, key=lambda op: (space.sensitivity[op] / (space.gain[op] + 1e-9), op))
    size = len(worth) // 2
    while size >= 1 and len(worth) > 1:
        removed = False
        for start in range(0, len(worth), size):
            block = worth[start : start + size]
            rest = [op for op in worth if op not in block]
            trial = yield Proposal(space.candidate(rest), "prune")
            if trial.drop is not None and criterion.passes(trial.drop):
                worth, removed = rest, True
                break
        if not removed:
            size //= 2
        size = min(size, max(len(worth) // 2, 1)) if size else 0
