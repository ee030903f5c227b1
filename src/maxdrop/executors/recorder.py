"""Trials in the trace: answered from it, or scored and appended to it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

from maxdrop.data.plan import Candidate
from maxdrop.data.trace import Note, Role, Trace, Trial
from maxdrop.errors import InternalError
from maxdrop.search.limits import Limits, Measurement
from maxdrop.search.scoring import Rejected

SHARED_OUT = "shared_out"
"""Note: whether candidates may be scored in worker processes, and the plans that were."""

CONFIRMED = "confirmed"
"""Note: by plan, the metric of one call on all items."""


class Recorder:
    """What all executors do alike, wherever they score.

    Args:
        limits: tell the drop of a measurement.
        trace: every trial is appended to it before the next one starts.
    """

    def __init__(self, limits: Limits, trace: Trace) -> None:
        self.trace = trace
        self._limits = limits

    @property
    def floating(self) -> Trial | None:
        """The float model's finished trial, if there is one."""
        return next((t for t in self.trace.trials if t.candidate is None and t.state == "complete"), None)

    def note(self, name: str) -> dict[str, Any]:
        """What the trace notes under `name`; empty where it notes nothing."""
        return self.trace.notes.get(name, {})

    def add_to_note(self, name: str, content: dict[str, Any]) -> None:
        """Note more under `name`."""
        self.trace.add(Note(name=name, content={**self.note(name), **content}))

    def record(
        self, role: Role, candidate: Candidate | None, plan_key: str, score: Callable[[], Measurement | Rejected]
    ) -> Trial:
        """Score a candidate and append its trial, also where scoring fails.

        Args:
            role: what the trial is for.
            candidate: None for the float model itself.
            plan_key: of the candidate's plan; empty for the float model.
            score: builds and scores it.

        Raises:
            Exception: whatever `score` raises.
        """
        start = time.monotonic()
        identity = {"number": len(self.trace.trials), "role": role, "candidate": candidate, "plan_key": plan_key}
        try:
            outcome = self._outcome(score(), candidate is None)
        except Exception as error:
            text = "".join(traceback.format_exception_only(error)).strip()
            self.trace.add(Trial(**identity, state="failed", seconds=_since(start), error=text))
            raise
        trial = Trial(**identity, **outcome, seconds=_since(start))
        self.trace.add(trial)
        return trial

    def _outcome(self, scored: Measurement | Rejected, is_float: bool) -> dict[str, Any]:
        """The fields of a trial that follow from what the user's function returned."""
        if isinstance(scored, Rejected):
            return {"state": "rejected", "drop": scored.drop, "evidence": scored.evidence}
        outcome = {"metric": scored.metric, "metrics": scored.metrics, "per_item": scored.per_item}
        if is_float:
            return {**outcome, "drop": 0.0}
        if self.floating is None:
            message = "the float model must be scored before any candidate"
            raise InternalError(message)
        limits, floating = self._limits, self.floating
        return {**outcome, "drop": limits.drop(scored, floating), "upper": limits.upper(scored, floating)}


def _since(start: float) -> float:
    return round(time.monotonic() - start, 6)
