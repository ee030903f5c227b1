"""What ends a search early."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from maxdrop.data.trace import Trial

OUT_OF_TIME = "the time budget was spent"

_PATIENCE = 0.6
"""Share of the validations after which only a step that is expected to be worthwhile is taken."""

_VALIDATIONS = (10, 16)
"""Most passes over many validation items, and over few."""

_MANY_ITEMS = 1000


def default_max_validations(items: int | None) -> int:
    """Most passes over so many validation items, where the user has not said.

    On few items a pass is cheap, and the metric moves in such steps that chance decides what passes: it takes more of
    them to see which ops need not be float.
    """
    least, most = _VALIDATIONS
    return least if not items else max(least, min(most, least * _MANY_ITEMS // items))


class OutOfTimeError(Exception):
    """Raised in the middle of work that a time budget cuts off."""


@dataclass(frozen=True)
class Budget:
    """Limits on the work of a search.

    All but the deadline are counted in the trace, so a resumed search has what is left of them.

    Attributes:
        max_evaluations: most candidates to evaluate after the fully quantized model.
        max_validations: most passes over the validation data, those of the float and the fully quantized model
            included; a candidate that is rejected early counts for the share of the items it was scored on.
        deadline: `time.monotonic()` after which no further candidate starts; None for no limit.
    """

    max_evaluations: int
    max_validations: float = math.inf
    deadline: float | None = None

    @property
    def patience(self) -> float:
        """Passes up to which a search goes on for any gain, so that no op is float that need not be.

        Beyond it, only a step that is expected to be worthwhile is taken, or one of so few that all of them can be.
        """
        return _PATIENCE * self.max_validations

    def spent(self, trials: Sequence[Trial]) -> str | None:
        """Why no further candidate may be started after these trials, or None."""
        evaluated = sum(t.role in ("search", "prune") and t.state != "failed" for t in trials)
        if evaluated >= self.max_evaluations:
            return f"the limit of {self.max_evaluations} candidates was reached"
        if not self.lasts(1, trials):
            return f"the limit of {self.max_validations:g} validations was reached"
        return self.out_of_time(trials)

    def lasts(self, count: int, trials: Sequence[Trial]) -> bool:
        """Whether `count` more passes can follow these trials."""
        return self.used(trials) + count <= self.max_validations + 1e-9

    @staticmethod
    def used(trials: Sequence[Trial]) -> float:
        """Passes over the validation data that these trials took."""
        return sum(t.validations for t in trials)

    def out_of_time(self, trials: Sequence[Trial]) -> str | None:
        """Why nothing may be started any more, or None: the next trial may take as long as the longest so far."""
        longest = max((t.seconds for t in trials if t.state != "failed"), default=0.0)
        if self.deadline is not None and time.monotonic() + longest >= self.deadline:
            return OUT_OF_TIME
        return None
