"""Order the ops once, find by bracketing how many must be float, then give back what need not be.

Ops are ordered by output error removed per time lost, which solves the relaxed knapsack. Along this order the drop
falls, apart from noise, from that of the int8 model to that of the float model; the crossing of the limit is found
from a predicted start, by predictions from all that was measured, and by bisection where these mislead. Reverted ops
mask each other's errors, so afterwards blocks of them are quantized again wherever the limit allows it, those first
from which the most time can be expected. At the end every op that is still float is tried on its own.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from maxdrop.data.trace import Trial
from maxdrop.search.criterion import Criterion
from maxdrop.search.curve import DropCurve, fit_curve
from maxdrop.search.loop import WORTHWHILE
from maxdrop.search.space import Proposal, SearchSpace, Steps

_AIMS = (0.85, 0.6)
"""Shares of the limit that the first predictions aim at, while nothing passes."""

_NEAR = 0.97
"""The same once the limit lies between two measured candidates."""

_TRUSTED = (0, 1, 3)
"""Steps that trust a prediction; the others halve the bracket. Counted afresh once something passes."""

_DOUBT = 0.3
"""Least chance that is given to a candidate while nothing has passed."""

_SLIM = 0.1
"""Chance that is given to a candidate with more error than one that failed: chance decides where a metric is coarse."""

_FINE = 0.01
"""Share of the model's time below which the bracket is narrow enough; what is left is for the second half."""

Points = list[tuple[float, float]]
"""(output error left, measured drop)."""


@dataclass(frozen=True)
class _Seen:
    """What was measured: points of the curve, and the sets of float ops that are not enough."""

    points: Points
    failing: list[frozenset[str]]

    def note(self, space: SearchSpace, criterion: Criterion, floats: Sequence[str], trial: Trial) -> bool:
        """Remember a trial; whether it passes."""
        if trial.bound is not None:
            self.points.append((space.error(floats), trial.bound))
        passes = trial.state == "complete" and trial.bound is not None and criterion.passes(trial.bound)
        if not passes:
            self.failing.append(frozenset(floats))
        return passes

    def fails(self, floats: Sequence[str]) -> bool:
        """Whether a set with at least these float ops was measured and failed."""
        chosen = frozenset(floats)
        return any(chosen <= known for known in self.failing)


def bracket(space: SearchSpace, criterion: Criterion) -> Steps:
    """The default strategy; the caller has already seen that the fully quantized model fails, or expects it."""
    if space.int8_error is None:
        seen = _Seen([(space.error(()), space.int8_drop)], [frozenset()])
    else:
        seen = _Seen([(space.int8_error, space.int8_drop)], [])
    order = removal_order(space)
    kept = yield from _first_passing(space, criterion, order, seen)
    needed = yield from _prune(space, criterion, order[:kept], seen)
    yield from _try_each(space, criterion, needed, seen)


def removal_order(space: SearchSpace) -> list[str]:
    """Ops by error removed per time lost, the best first; ties in topological order."""
    floor = 0.1 / max(len(space.ops), 1)  # converting at the border of a float op costs time too
    return sorted(space.ops, key=lambda op: -space.sensitivity[op] / (space.gain[op] + floor))


def _first_passing(
    space: SearchSpace, criterion: Criterion, order: list[str], seen: _Seen
) -> Generator[Proposal, Trial, int]:
    """Fewest leading ops of `order` that have to be float, as far as the bracket tells."""
    failing, passing = 0, len(order)
    steps = {False: 0, True: 0}
    while passing - failing > 1:
        found = passing < len(order)
        guess = _guess(space, order, seen, criterion.max_drop, (failing, passing), steps[found])
        worth = space.time(order[guess:passing])
        if found and worth < _FINE:
            break
        steps[found] += 1
        floats = order[:guess]
        trial = yield Proposal(space.candidate(floats), "search", worth)
        if seen.note(space, criterion, floats, trial):
            passing = guess
        else:
            failing = guess
    return passing


def _guess(space: SearchSpace, order: list[str], seen: _Seen, max_drop: float, ends: tuple[int, int], step: int) -> int:
    """How many leading ops to try next, strictly between the ends of the bracket."""
    failing, passing = ends
    curve = fit_curve(seen.points, max_drop) if passing == len(order) else _secant(space, order, seen, ends, max_drop)
    middle = (failing + passing) // 2
    if curve is None or step not in _TRUSTED or (passing == len(order) and step >= len(_AIMS)):
        return middle
    left = space.error(order[:failing])
    aim = max_drop * (_AIMS[step] if passing == len(order) else _NEAR)
    guess = passing - 1
    for count in range(failing + 1, passing):
        left -= space.sensitivity[order[count - 1]]
        if curve(max(left, 0.0)) <= aim:
            guess = count
            break
    if passing == len(order) and space.time(order[guess:]) < WORTHWHILE:
        return middle  # it would end the search; a tight limit makes every prediction say so, and proves nothing
    return guess


def _secant(
    space: SearchSpace, order: list[str], seen: _Seen, ends: tuple[int, int], max_drop: float
) -> DropCurve | None:
    """The curve through both ends of the bracket."""
    drops = dict(seen.points)
    errors = [space.error(order[:count]) for count in ends]
    points = [(error, drops[error]) for error in errors if error in drops]
    return fit_curve(points, max_drop, prior=False) if len(points) == 2 else fit_curve(seen.points, max_drop)


def _prune(
    space: SearchSpace, criterion: Criterion, floats: list[str], seen: _Seen
) -> Generator[Proposal, Trial, list[str]]:
    """Quantize reverted ops again, in blocks of those with the least error for their time.

    Every block is the one with the largest expected gain: its time, times the chance that the limit holds without it.
    A block that fails is not tried again with more ops in it, so the blocks shrink to single ops, and an op that fails
    alone stays float. Returns the ops of which none is expected to pass, the most sensitive for its time last.
    """
    worth = sorted(floats, key=lambda op: (space.sensitivity[op] / (space.gain[op] + 1e-9), op))
    needed: list[str] = []
    largest = len(worth)
    passing = next((point for point in seen.points if point[0] == space.error(floats)), None)
    while worth:
        size, gain = _best_block(space, criterion, worth, needed, min(largest, len(worth)), seen, passing)
        if size == 0:  # known to fail even alone
            needed.append(worth.pop(0))
            continue
        rest = [*needed, *worth[size:]]
        trial = yield Proposal(space.candidate(rest), "prune", gain, _left(space, [*needed, *worth]))
        if seen.note(space, criterion, rest, trial):
            worth, passing = worth[size:], seen.points[-1]
        elif size == 1:
            needed.append(worth.pop(0))
            largest = max(largest, 2)
        else:
            largest = size // 2
    return needed


def _try_each(space: SearchSpace, criterion: Criterion, floats: list[str], seen: _Seen) -> Steps:
    """Quantize single ops again until every one that is left was seen to fail alone.

    An op is left float when a set of float ops with more in it failed, and with a coarse metric that need not hold.
    """
    left = sorted(floats, key=lambda op: -space.gain[op])
    while untried := [op for op in left if frozenset(left) - {op} not in seen.failing]:
        rest = [op for op in left if op != untried[0]]
        trial = yield Proposal(space.candidate(rest), "prune", space.gain[untried[0]] * _SLIM, _left(space, untried))
        if seen.note(space, criterion, rest, trial):
            left = rest


def _left(space: SearchSpace, floats: Sequence[str]) -> int:
    """How many of these float ops would save a worthwhile share, each on its own."""
    return sum(space.gain[op] >= WORTHWHILE for op in floats)


def _best_block(
    space: SearchSpace,
    criterion: Criterion,
    worth: list[str],
    needed: list[str],
    largest: int,
    seen: _Seen,
    passing: tuple[float, float] | None,
) -> tuple[int, float]:
    """Size and expected gain of the block to quantize next; 0 when all blocks are known to fail."""
    curve = fit_curve(seen.points, criterion.max_drop)
    left = space.error([*needed, *worth])
    gain, best = 0.0, (0, -1.0)
    for size in range(1, largest + 1):
        op = worth[size - 1]
        gain, left = gain + space.gain[op], left + space.sensitivity[op]
        if seen.fails([*needed, *worth[size:]]):
            break  # and so do all larger blocks
        chance = 0.5 if curve is None else curve.chance(left, criterion.max_drop, passing)
        if passing is None:  # predictions have misled so far, and anything is better than the float model
            chance = max(chance, _DOUBT)
        if gain * chance > best[1]:
            best = (size, gain * chance)
    return best
