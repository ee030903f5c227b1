"""A compiled model to a measurement, with the user's function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from maxdrop.data.trace import Evidence
from maxdrop.search.limits import Limits, Measurement
from maxdrop.search.rejection import Rejection


@dataclass(frozen=True)
class Rejected:
    """A candidate that was not scored on all items.

    Attributes:
        drop: on the items that were scored.
        evidence: why they were enough.
    """

    drop: float
    evidence: Evidence


class ItemSource(Protocol):
    """The validation items."""

    @property
    def positions(self) -> int | None:
        """Number of items that can be taken by position; None if they cannot."""

    def items(self, positions: Sequence[int] | None = None) -> Any:
        """What the user's function gets: all items, or those at `positions` in ascending order."""


class Scorer:
    """Calls the user's function.

    Args:
        validate: `validate(compiled_model, items)`.
        source: of the items.
        limits: reads what the function returns.
    """

    def __init__(self, validate: Callable[[Any, Any], Any], source: ItemSource, limits: Limits) -> None:
        self._validate = validate
        self._source = source
        self.limits = limits

    @property
    def ingredients(self) -> dict[str, Any]:
        """What the user gave, by the names that the user knows."""
        return {"the validation function": self._validate, "the validation items": self._source}

    def whole(self, compiled: Any) -> Measurement:
        """Score all items in one call."""
        return self.limits.read(self._validate(compiled, self._source.items()))

    def in_parts(self, compiled: Any, rule: Rejection) -> Measurement | Rejected:
        """Score part after part, and stop as soon as the candidate is seen to fail.

        Where a part's values turn out not to make up its metric, all items are scored in one call after all.
        """
        found = score_parts(rule, lambda positions: self.values(compiled, positions))
        return self.whole(compiled) if found is None else found

    def values(self, compiled: Any, positions: Sequence[int]) -> tuple[float, ...] | None:
        """One number for each item at `positions`, in that order; None where they do not make up the metric."""
        part = self.limits.read(self._validate(compiled, self._source.items(positions)))
        return part.per_item if _makes_up(part, len(positions)) else None


def score_parts(
    rule: Rejection, values: Callable[[Sequence[int]], Sequence[float] | None]
) -> Measurement | Rejected | None:
    """Score part after part, and stop as soon as the candidate is seen to fail.

    Args:
        rule: the parts, and when to stop.
        values: scores the items at these positions; see `Scorer.values`.

    Returns:
        None where some part's values do not make up its metric, so that parts tell nothing.
    """
    scored: dict[int, float] = {}
    for positions in rule.parts:
        part = values(positions)
        if part is None:
            return None
        scored.update(zip(positions, part, strict=True))
        evidence = rule.verdict(scored)
        if evidence is not None:
            return Rejected(rule.drop(scored), evidence)
    whole = tuple(scored[i] for i in range(len(scored)))
    return Measurement(rule.mean(whole), None, whole)


def _makes_up(part: Measurement, count: int) -> bool:
    values = part.per_item
    return values is not None and len(values) == count and bool(np.isclose(np.mean(values), part.metric))
