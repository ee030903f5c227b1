"""Trials one after another in this process."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic

from maxdrop.data.plan import Candidate, QuantizationPlan
from maxdrop.data.protocols import Backend, ModelT
from maxdrop.data.trace import Role, Trace, Trial
from maxdrop.errors import InternalError
from maxdrop.ptq.build import Planner
from maxdrop.search.limits import Measurement
from maxdrop.search.rejection import Rejection
from maxdrop.search.scoring import Rejected, Scorer


class SerialExecutor(Generic[ModelT]):
    """Builds a candidate, exports and re-reads it, and scores what was read with the user's function.

    Args:
        backend: of the model.
        model: the float model.
        planner: makes plans.
        scorer: scores a compiled model.
        config: the user's compile configuration.
        trace: every trial is appended to it before the next one starts.
    """

    def __init__(
        self,
        backend: Backend[ModelT],
        model: ModelT,
        planner: Planner,
        scorer: Scorer,
        config: Mapping[str, Any],
        trace: Trace,
    ) -> None:
        self._backend = backend
        self._model = model
        self._planner = planner
        self._scorer = scorer
        self._config = config
        self._trace = trace

    def score_float(self) -> Trial:
        """The float model's trial."""
        found = next((t for t in self._trace.trials if t.candidate is None and t.state == "complete"), None)
        if found is not None:
            return found
        return self._record("float", None, "", lambda: self._model, None)

    def run(self, candidate: Candidate, role: Role, rule: Rejection | None = None) -> Trial:
        """The candidate's trial, from the trace if an equal plan was scored before.

        Args:
            candidate: to build and score.
            role: what the trial is for.
            rule: when to stop scoring a candidate that fails; None always scores all items.
        """
        plan = self._planner(candidate)
        found = self._trace.find(plan.key())
        if found is not None:
            return found
        return self._record(role, candidate, plan.key(), lambda: self._exported(plan), rule)

    def knows(self, candidate: Candidate) -> bool:
        """Whether `run` would answer from the trace."""
        return self._trace.find(self._planner(candidate).key()) is not None

    def _exported(self, plan: QuantizationPlan) -> ModelT:
        """The model as it will be read from disk: what is scored is what the user gets."""
        built = self._backend.apply(self._model, plan, self._planner.arrays)
        with tempfile.TemporaryDirectory(prefix="maxdrop-") as folder:
            path = Path(folder) / "model.xml"
            self._backend.save(built, path)
            return self._backend.load(path)

    def _record(
        self, role: Role, candidate: Candidate | None, key: str, build: Callable[[], ModelT], rule: Rejection | None
    ) -> Trial:
        start = time.monotonic()
        identity = {"number": len(self._trace.trials), "role": role, "candidate": candidate, "plan_key": key}
        try:
            compiled = self._backend.compile(build(), self._config)
            scored = self._scorer.whole(compiled) if rule is None else self._scorer.in_parts(compiled, rule)
            outcome = self._outcome(scored, candidate is None)
        except Exception as error:
            text = "".join(traceback.format_exception_only(error)).strip()
            self._trace.add(Trial(**identity, state="failed", seconds=_since(start), error=text))
            raise
        trial = Trial(**identity, **outcome, seconds=_since(start))
        self._trace.add(trial)
        return trial

    def _outcome(self, scored: Measurement | Rejected, is_float: bool) -> dict[str, Any]:
        """The fields of a trial that follow from what the user's function returned."""
        if isinstance(scored, Rejected):
            return {"state": "rejected", "drop": scored.drop, "evidence": scored.evidence}
        outcome = {"metric": scored.metric, "metrics": scored.metrics, "per_item": scored.per_item}
        if is_float:
            return {**outcome, "drop": 0.0}
        floating = next((t for t in self._trace.trials if t.candidate is None and t.state == "complete"), None)
        if floating is None:
            message = "the float model must be scored before any candidate"
            raise InternalError(message)
        limits = self._scorer.limits
        return {**outcome, "drop": limits.drop(scored, floating), "upper": limits.upper(scored, floating)}


def _since(start: float) -> float:
    return round(time.monotonic() - start, 6)
