"""Order the ops once, find by bracketing how many must be float, then give back what need not be.

Ops are ordered by output error removed per time lost, which solves the relaxed knapsack. Along this order the drop
falls, apart from noise, from that of the int8 model to that of the float model; the crossing of the limit is found
from a predicted start, by predictions from all that was measured, and by bisection where these mislead. Reverted ops
mask each other's errors, so afterwards blocks of them are quantized again wherever the limit allows it, those first
from which the most time can be expected.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from maxdrop.data.trace import Trial
from maxdrop.search.criterion import Criterion
from maxdrop.search.curve import fit_curve
from maxdrop.search.space import Proposal, SearchSpace, Steps

_AIM = 0.85
"""Share of the limit that predictions aim at."""

_PREDICTIONS = 2
"""Steps that trust the prediction; of the later ones every second halves the bracket."""

_FINE = 0.005
"""Share of the model's time below which the bracket is narrow enough; what is left is for the second half."""

Points = list[tuple[float, float]]


def bracket(space: SearchSpace, criterion: Criterion) -> Steps:
    """The default strategy; the caller has already seen that the fully quantized model fails."""
    points: Points = [(space.error(()), space.int8_drop)]
    order = removal_order(space)
    kept = yield from _first_passing(space, criterion, order, points)
    yield from _prune(space, criterion, order[:kept], points)


def removal_order(space: SearchSpace) -> list[str]:
    """Ops by error removed per time lost, the best first; ties in topological order."""
    floor = 0.1 / max(len(space.ops), 1)  # converting at the border of a float op costs time too
    return sorted(space.ops, key=lambda op: -space.sensitivity[op] / (space.gain[op] + floor))


def _first_passing(
    space: SearchSpace, criterion: Criterion, order: list[str], points: Points
) -> Generator[Proposal, Trial, int]:
    """Fewest leading ops of `order` that have to be float, as far as the bracket tells."""
    failing, passing = 0, len(order)
    step = 0
    while passing - failing > 1:
        if passing < len(order) and _time(space, order[failing + 1 : passing]) < _FINE:
            break
        trusts = step < _PREDICTIONS or step % 2 == 0
        guess = _predict(space, order, points, criterion.max_drop, failing) if trusts else None
        middle = (failing + passing) // 2
        count = middle if guess is None else min(max(guess, failing + 1), passing - 1)
        floats = order[:count]
        trial = yield Proposal(space.candidate(floats), "search")
        if _note(space, criterion, floats, trial, points):
            passing = count
        else:
            failing = count
        step += 1
    return passing


def _predict(space: SearchSpace, order: list[str], points: Points, max_drop: float, failing: int) -> int | None:
    """Smallest count above `failing` whose predicted drop is within the limit."""
    curve = fit_curve(points, max_drop)
    if curve is None:
        return None
    left = space.error(order[:failing])
    for count in range(failing + 1, len(order)):
        left -= space.sensitivity[order[count - 1]]
        if curve(left) <= _AIM * max_drop:
            return count
    return None


def _prune(space: SearchSpace, criterion: Criterion, floats: list[str], points: Points) -> Steps:
    """Quantize reverted ops again, in blocks of those with the least error for their time.

    Every block is the one with the largest expected gain: its time, times the chance that the limit holds without it.
    A block that fails is not tried again with more ops in it, so the blocks shrink to single ops, and an op that fails
    alone stays float. Ends when no single op can be quantized again.
    """
    worth = sorted(floats, key=lambda op: (space.sensitivity[op] / (space.gain[op] + 1e-9), op))
    needed: list[str] = []
    known_bad: set[frozenset[str]] = set()
    largest = len(worth)
    while worth and len(worth) + len(needed) > 1:
        size, gain = _best_block(space, criterion, worth, needed, min(largest, len(worth)), points)
        rest = [*needed, *worth[size:]]
        if not rest:
            size, rest = size - 1, [*needed, *worth[size - 1 :]]
        trial = yield Proposal(space.candidate(rest), "prune", gain)
        if _note(space, criterion, rest, trial, points):
            worth = worth[size:]
            largest = max(largest - size, 1) if largest > size else largest
        elif size == 1:
            needed.append(worth.pop(0))
            largest = max(len(worth) // 2, 1)
        else:
            largest = size - 1 if size < 3 else size // 2
    del known_bad


def _best_block(
    space: SearchSpace, criterion: Criterion, worth: list[str], needed: list[str], largest: int, points: Points
) -> tuple[int, float]:
    curve = fit_curve(points, criterion.max_drop)
    left = space.error([*needed, *worth])
    gain, best = 0.0, (1, -1.0)
    for size in range(1, largest + 1):
        op = worth[size - 1]
        gain, left = gain + space.gain[op], left + space.sensitivity[op]
        chance = 0.5 if curve is None else curve.chance(left, criterion.max_drop)
        if gain * chance > best[1]:
            best = (size, gain * chance)
    return best


def _time(space: SearchSpace, ops: Sequence[str]) -> float:
    return sum(space.gain[op] for op in ops)


def _note(space: SearchSpace, criterion: Criterion, floats: Sequence[str], trial: Trial, points: Points) -> bool:
    """Whether the trial passes; its drop is added to the points."""
    if trial.bound is None:
        return False
    points.append((space.error(floats), trial.bound))
    return trial.state == "complete" and criterion.passes(trial.bound)
