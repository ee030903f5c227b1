"""How a search stands, in a line: the bracket, and the work that is left."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from maxdrop.data.spec import Precision
from maxdrop.data.trace import Trial
from maxdrop.search.budget import Budget
from maxdrop.search.forecast import TYPICAL_CANDIDATES, in_words
from maxdrop.search.limits import Limits
from maxdrop.search.loop import passes

_TYPICAL = 2 + TYPICAL_CANDIDATES
"""Validations of a typical search, those of the float and the fully quantized model included."""


def standing(trials: Sequence[Trial], gain: Mapping[str, float], limits: Limits, budget: Budget) -> str:
    """Which validation comes next, the best passing and the best failing candidate, and the time left.

    Args:
        trials: all so far.
        gain: what int8 is worth by op, empty while it is not known; tells which passing candidate is the best.
        limits: what may be lost.
        budget: ends the search.
    """
    done = sum(trial.validations for trial in trials)
    floating = next((trial for trial in trials if trial.candidate is None and trial.state == "complete"), None)
    most = min(budget.max_validations, 2.0 + budget.max_evaluations)
    parts = [f"validation {int(done) + 1} of at most {most:g}"] if done < most else []
    if floating is not None:
        criterion = limits.for_strategies(floating)
        tried = [trial for trial in trials if trial.candidate is not None and trial.bound is not None]
        best = _fastest([trial for trial in tried if passes(trial, criterion)], gain)
        closest = _closest([trial for trial in tried if not passes(trial, criterion)])
        parts += [f"best passing: {_shown(best, 'float model')}", f"best failing: {_shown(closest, 'none yet')}"]
        parts.append(_time_left(trials, done, most, budget.deadline))
    return " | ".join(parts)


def _fastest(passing: Sequence[Trial], gain: Mapping[str, float]) -> Trial | None:
    def lost(trial: Trial) -> tuple[float, int]:
        floats = _reverted(trial)
        return sum(gain.get(op, 0.0) for op in floats), len(floats)

    return min(passing, key=lost, default=None)


def _closest(failing: Sequence[Trial]) -> Trial | None:
    return min(failing, key=lambda trial: trial.bound or 0.0, default=None)


def _reverted(trial: Trial) -> list[str]:
    precisions = trial.candidate.precisions if trial.candidate is not None else {}
    return [op for op, precision in precisions.items() if precision is not Precision.INT8]


def _shown(trial: Trial | None, without: str) -> str:
    if trial is None:
        return without
    count = len(_reverted(trial))
    ops = "all ops int8" if not count else f"{count} op{'s' if count > 1 else ''} reverted"
    return f"{ops}, drop {trial.drop:.3g}"


def _time_left(trials: Sequence[Trial], done: float, limit: float, deadline: float | None) -> str:
    """What the validations so far took, times those that are left, as far as the time budget goes."""
    spent = [trial.seconds for trial in trials if trial.state != "failed"]
    each = sum(spent) / done if done else 0.0
    most = max(0.0, limit - done) * each
    if deadline is not None:
        most = min(most, max(0.0, deadline - time.monotonic()))
    typical = min(most, max(0.0, _TYPICAL - done) * each)
    about = f"about {in_words(typical)}, " if typical > 0.0 else ""
    return f"{about}at most {in_words(most)} left"
