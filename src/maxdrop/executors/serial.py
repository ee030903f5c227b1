"""Trials one after another in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic

from maxdrop.data.plan import Candidate, QuantizationPlan
from maxdrop.data.protocols import ModelT
from maxdrop.data.trace import Role, Trial
from maxdrop.executors.materials import Materials
from maxdrop.executors.recorder import CONFIRMED, SHARED_OUT, Recorder
from maxdrop.ptq.build import Planner
from maxdrop.search.limits import Measurement
from maxdrop.search.rejection import Rejection
from maxdrop.search.scoring import Rejected, Scorer
from maxdrop.search.sensitivity import measure_sensitivity


class SerialExecutor(Generic[ModelT]):
    """Builds a candidate, exports and re-reads it, and scores what was read with the user's function.

    Args:
        materials: of candidates.
        scorer: scores a compiled model.
    """

    def __init__(self, materials: Materials[ModelT], scorer: Scorer) -> None:
        self._materials = materials
        self._scorer = scorer
        self._recorder = Recorder(scorer.limits, materials.trace)

    def follow(self, planner: Planner) -> None:
        """Make plans with this planner from now on."""
        self._materials = replace(self._materials, planner=planner)

    def score_float(self) -> Trial:
        """The float model's trial."""
        found = self._recorder.floating
        return found or self._recorder.record("float", None, "", lambda: self._score(self._materials.model, None))

    def run(self, candidate: Candidate, role: Role, rule: Rejection | None = None) -> Trial:
        """The candidate's trial, from the trace if an equal plan was scored before.

        Args:
            candidate: to build and score.
            role: what the trial is for.
            rule: when to stop scoring a candidate that fails; None always scores all items.
        """
        plan = self._materials.planner(candidate)
        found = self._recorder.trace.find(plan.key())
        if found is not None:
            return found
        return self._recorder.record(role, candidate, plan.key(), lambda: self.score(plan, rule))

    def knows(self, candidate: Candidate) -> bool:
        """Whether `run` would answer from the trace."""
        return self._recorder.trace.find(self._materials.planner(candidate).key()) is not None

    def confirm(self, trial: Trial) -> Trial:
        """The trial with the metric of one call on all items, made in this process with the user's configuration.

        Other trials are right as they are. Only those of worker processes, maybe of an earlier run, need it: there the
        number of threads is another, with which some kernels give other last bits. That can hardly change a metric,
        but what is promised is what the user will measure.

        Args:
            trial: that the search would return.

        Returns:
            `trial` itself where both metrics agree; otherwise a new trial, which the trace then holds too.
        """
        key = trial.plan_key
        if trial.candidate is None or key not in self._recorder.note(SHARED_OUT).get("plans", []):
            return trial
        again = [t for t in self._recorder.trace.trials if t.plan_key == key and t.state == "complete"][1:]
        if again or key in self._recorder.note(CONFIRMED):
            return again[-1] if again else trial
        plan = self._materials.planner(trial.candidate)
        found = self._scorer.whole(self._materials.compile(self._exported(plan)))
        if found.metric != trial.metric:
            trial = self._recorder.record(trial.role, trial.candidate, key, lambda: found)
        self._recorder.add_to_note(CONFIRMED, {key: found.metric})
        return trial

    def sensitivity(
        self, plan: QuantizationPlan, samples: Sequence[Any], progress: Callable[[int], None]
    ) -> dict[str, float]:
        """Output NMSE with each op of the plan alone quantized; see `measure_sensitivity`."""
        return measure_sensitivity(self._materials.backend.switchable(self._materials.model, plan), samples, progress)

    def score(self, plan: QuantizationPlan, rule: Rejection | None = None) -> Measurement | Rejected:
        """Build the model of a plan and score it, without looking at the trace; see `run`."""
        return self._score(self._exported(plan), rule)

    def close(self) -> None:
        """Nothing is kept."""

    def _exported(self, plan: QuantizationPlan) -> ModelT:
        """The model as it will be read from disk: what is scored is what the user gets."""
        backend, built = self._materials.backend, self._materials.build(plan)
        with tempfile.TemporaryDirectory(prefix="maxdrop-") as folder:
            path = Path(folder) / "model.xml"
            backend.save(built, path)
            return backend.load(path)

    def _score(self, model: ModelT, rule: Rejection | None) -> Measurement | Rejected:
        compiled = self._materials.compile(model)
        return self._scorer.whole(compiled) if rule is None else self._scorer.in_parts(compiled, rule)
