"""Rejecting a candidate before all validation items are scored, where that is valid.

It is valid when the metric is the mean of one number per item, an item's number does not depend on the others, and
items can be taken by position. A candidate is only ever rejected early, never accepted: one that passes has been scored
on everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.trace import Evidence, Trial
from maxdrop.search.criterion import Criterion

Reduce = Callable[[Sequence[float]], float]

LOOKS = (0.25, 0.6)
"""Shares of the items after which a candidate may be rejected. Few, because every look is a call of the user's
function with its own overhead."""

_FEWEST = 50
"""Items that a look needs at least."""

_ALPHA = 0.01
"""Probability that a candidate within the limit is rejected by the bets."""

_MEANS: dict[str, Reduce] = {
    "numpy": lambda values: float(np.mean(values)),
    "sum": lambda values: sum(values) / len(values),
    "exact sum": lambda values: math.fsum(values) / len(values),
    "float32": lambda values: float(np.mean(np.asarray(values, np.float32))),
}
"""Ways to take a mean: one that gives the user's metric to the last bit makes the parts as good as the whole."""


@dataclass(frozen=True)
class Rejection:
    """The rule for one search.

    Attributes:
        values: one number for each item, of the float model.
        limit: largest allowed loss in units of the metric.
        higher_is_better: direction of the metric.
        lowest: smallest number that an item can get.
        highest: largest number that an item can get.
        order: the items in the order in which they are scored.
        mean: turns the numbers of all items into the user's metric.
        unit: what a loss is divided by to become a drop in the terms of the limit.
    """

    values: NDArray[np.float64]
    limit: float
    higher_is_better: bool
    lowest: float
    highest: float
    order: NDArray[np.intp]
    mean: Reduce
    unit: float = 1.0

    @property
    def parts(self) -> list[list[int]]:
        """Positions of the items to score between looks, each part in ascending order."""
        cuts = [0, *_ends(len(self.order))]
        return [sorted(self.order[a:b].tolist()) for a, b in pairwise(cuts)]

    def drop(self, scored: Mapping[int, float]) -> float:
        """The drop on the items in `scored`."""
        return float(self._losses(scored).mean()) / self.unit

    def verdict(self, scored: Mapping[int, float]) -> Evidence | None:
        """Why the candidate can be rejected after the items in `scored`, or None."""
        total = len(self.order)
        seen = [i for i in self.order.tolist() if i in scored]
        found = np.array([scored[i] for i in seen])
        losses, sign = self._losses(scored), 1.0 if self.higher_is_better else -1.0
        if len(seen) == total or found.min() < self.lowest or found.max() > self.highest:
            return None
        rest = np.setdiff1d(self.order, seen)
        best = self.highest if self.higher_is_better else self.lowest
        least = float(losses.sum() + (sign * (self.values[rest] - best)).sum()) / total
        tolerance = 1e-9 * max(1.0, abs(self.highest), abs(self.lowest))
        if least > self.limit + tolerance:
            text = f"even if every other item were as good as can be, the loss would be {least:.4g}"
            return Evidence(test="bound", items=len(seen), of=total, text=text)
        if losses.mean() > self.limit + tolerance and _bets_won(losses, self.limit, total, self.highest - self.lowest):
            text = f"the loss on these items is {losses.mean():.4g}, which a passing candidate shows in 1 % of cases"
            return Evidence(test="betting", items=len(seen), of=total, text=text)
        return None

    def _losses(self, scored: Mapping[int, float]) -> NDArray[np.float64]:
        """Loss of each scored item, in the order of scoring."""
        seen = [i for i in self.order.tolist() if i in scored]
        lost: NDArray[np.float64] = self.values[seen] - np.array([scored[i] for i in seen])
        return lost if self.higher_is_better else -lost


def make_rejection(
    trials: Sequence[Trial], limit: Criterion, count: int | None, note: Mapping[str, Any], seed: int
) -> Rejection | str:
    """The rule, or why candidates cannot be rejected early.

    Args:
        trials: the fully scored ones so far, that of the float model first.
        limit: on the only metric.
        count: number of validation items that can be taken by position; None if they cannot.
        note: what `compare_two_calls` found.
        seed: of the order of the items.
    """
    floating = trials[0]
    if count is None:
        return "validation items cannot be taken by position; pass a list or an array"
    if any(t.per_item is None for t in trials):
        return "the validation function returns no numbers per item"
    values = [t.per_item or () for t in trials]
    if any(len(row) != count for row in values):
        return f"the validation function returns {len(values[0])} numbers for {count} items"
    if not np.isfinite(values).all():
        return "some item has no finite number"
    if not note.get("items_alone_equal"):
        return "items do not get the same number alone as among others"
    exact = [mean for mean in _MEANS.values() if all(mean(t.per_item or ()) == t.metric for t in trials)]
    if not exact:
        return "the mean of the numbers per item is not the metric"
    if len(_ends(count)) < 2:
        return f"{count} items are too few to be worth it"
    low, high = min(map(min, values)), max(map(max, values))
    return Rejection(
        values=np.asarray(values[0], np.float64),
        limit=limit.in_units_of_the_metric(floating.metric or 0.0),
        higher_is_better=limit.higher_is_better,
        lowest=low,
        highest=high,
        order=np.random.default_rng(seed).permutation(count),
        mean=exact[0],
        unit=1.0 if limit.drop_type == "absolute" else abs(floating.metric or 0.0),
    )


def _ends(count: int) -> list[int]:
    """How many items are scored at each look and at the end."""
    ends = [round(share * count) for share in LOOKS]
    return [end for end in ends if end >= _FEWEST and count - end >= _FEWEST] + [count]


def _bets_won(losses: NDArray[np.float64], limit: float, total: int, span: float) -> bool:
    """Whether bets against "the mean loss over all items is within the limit" multiply the stake by 1 / alpha.

    Items are drawn without replacement, so what the limit allows for the items still to come follows from those seen:
    the bets are fair or worse as long as the limit holds, whenever one looks (Waudby-Smith and Ramdas, 2020).
    """
    if span <= 0.0:
        return False
    wealth, seen, squares = 0.0, 0.0, 0.25 * span * span
    for count, loss in enumerate(losses.tolist()):
        allowed = (total * limit - seen) / (total - count)
        if allowed < -span:
            return True  # whatever the other items are, the limit is broken
        mean = seen / (count + 1)
        variance = squares / (count + 1)
        edge = max(mean - allowed, 0.0)
        stake = min(edge / (variance + edge * edge), 0.9 / (span + max(allowed, 0.0))) if edge > 0.0 else 0.0
        wealth += math.log1p(stake * (loss - allowed))
        if wealth >= -math.log(_ALPHA):
            return True
        seen += loss
        squares += (loss - mean) ** 2
    return False
