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
from maxdrop.ptq.build import Planner
from maxdrop.search.criterion import Criterion, read_metric

Validate = Callable[[Any], Any]


class SerialExecutor(Generic[ModelT]):
    """Builds a candidate, exports and re-reads it, and scores what was read with the user's function.

    Args:
        backend: of the model.
        model: the float model.
        planner: makes plans.
        validate: scores a compiled model on all validation data.
        config: the user's compile configuration.
        criterion: turns metrics into drops.
        trace: every trial is appended to it before the next one starts.
    """

    def __init__(
        self,
        backend: Backend[ModelT],
        model: ModelT,
        planner: Planner,
        validate: Validate,
        config: Mapping[str, Any],
        criterion: Criterion,
        trace: Trace,
    ) -> None:
        self._backend = backend
        self._model = model
        self._planner = planner
        self._validate = validate
        self._config = config
        self._criterion = criterion
        self._trace = trace

    def score_float(self) -> Trial:
        """The float model's trial."""
        found = next((t for t in self._trace.trials if t.candidate is None and t.state == "complete"), None)
        if found is not None:
            return found
        return self._record("float", None, "", lambda: self._model)

    def run(self, candidate: Candidate, role: Role) -> Trial:
        """The candidate's trial, from the trace if an equal plan was scored before."""
        plan = self._planner(candidate)
        found = self._trace.find(plan.key())
        if found is not None:
            return found
        return self._record(role, candidate, plan.key(), lambda: self._exported(plan))

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

    def _record(self, role: Role, candidate: Candidate | None, key: str, build: Callable[[], ModelT]) -> Trial:
        start = time.monotonic()
        number = len(self._trace.trials)
        try:
            compiled = self._backend.compile(build(), self._config)
            metric, per_item = read_metric(self._validate(compiled))
        except Exception as error:
            text = "".join(traceback.format_exception_only(error)).strip()
            seconds = round(time.monotonic() - start, 6)
            failed = Trial(
                number=number, role=role, candidate=candidate, plan_key=key, state="failed",
                seconds=seconds, error=text,
            )  # fmt: skip
            self._trace.add(failed)
            raise
        reference = metric if candidate is None else self.score_float().metric
        trial = Trial(
            number=number,
            role=role,
            candidate=candidate,
            plan_key=key,
            metric=metric,
            drop=self._criterion.drop(metric, reference if reference is not None else metric),
            per_item=per_item,
            seconds=round(time.monotonic() - start, 6),
        )
        self._trace.add(trial)
        return trial
