"""Ranking and tuning with the user's calibration samples: what needs the model, but no labels and no validation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from maxdrop.data.plan import Candidate
from maxdrop.data.protocols import Backend
from maxdrop.data.spec import Policy
from maxdrop.data.trace import Note, Trace
from maxdrop.dataset import Dataset
from maxdrop.progress import ProgressReporter
from maxdrop.ptq.build import Planner
from maxdrop.search.budget import OutOfTimeError
from maxdrop.search.forecast import Effort
from maxdrop.search.forms import VARIANTS
from maxdrop.search.presets import SAMPLES, choose_presets, presets
from maxdrop.search.retune import MOST_OPS, Retuned, retune
from maxdrop.search.sensitivity import add_weight_error
from maxdrop.search.session import RETUNED, SENSITIVITY, Executor

TUNED = "tuned"
"""Note: the policy that tuning before the search came to, and how."""

CHECKED = 8
"""Samples, none of them measured with, on which all new forms together must be better."""


@dataclass(frozen=True)
class Tuner:
    """Measures on calibration samples that were seen already; none of it is a calibration pass.

    Attributes:
        backend: of the model.
        model: the float model.
        config: the user's compile configuration.
        calibration: the samples.
        subset_size: most of them that calibration took.
        ranking_size: how many rank the ops.
        executor: runs the ranking.
        progress: where stages are shown.
        deadline: `time.monotonic()` at which ranking ends; retuning ends half-way, to leave time for candidates. None
            for no limit.
    """

    backend: Backend[Any]
    model: Any
    config: Mapping[str, Any]
    calibration: Dataset
    subset_size: int
    ranking_size: int
    executor: Executor
    progress: ProgressReporter
    deadline: float | None = None

    def rank(self, planner: Planner) -> dict[str, float]:
        """The sensitivity of every int8 op.

        Raises:
            OutOfTimeError: at the deadline.
        """
        plan, samples = planner(Candidate()), self._samples(planner, self.ranking_size)
        with self.progress.stage("ranking", len(samples) * len(plan.int8_ops)) as tick:
            raw = self.executor.sensitivity(plan, samples, self._until(tick))
        return add_weight_error(raw, planner.graph, plan, planner.statistics, planner.arrays)

    def retune(self, planner: Planner, wishes: Policy, sensitivity: Mapping[str, float]) -> Retuned:
        """Better forms of the most sensitive ops; see `maxdrop.search.retune`.

        Raises:
            OutOfTimeError: half-way to the deadline.
        """
        samples, unseen = self._samples(planner, self.ranking_size), self._samples(planner, CHECKED, self.ranking_size)
        most = VARIANTS * len(samples) * (min(MOST_OPS, len(planner.int8_ops)) + 1) + 3 * len(unseen)
        with self.progress.stage("retuning", most) as tick:
            checked = self._until(tick, share=0.5)
            return retune(planner, wishes, self.backend, self.model, self.config, sensitivity, samples, unseen, checked)

    def before_the_search(self, planner: Planner, trace: Trace) -> Planner:
        """`planner` with the presets and forms that bring the outputs closest to the float model's.

        Found once for a trace, and with it the sensitivities, so that the search need not rank again. A time budget
        that ends while single ops are tuned leaves the presets.
        """
        if TUNED not in trace.notes:
            samples = self._samples(planner, SAMPLES)
            with self.progress.stage("tuning") as tick:
                found = choose_presets(planner, self.backend, self.model, self.config, samples, tick)
            current = planner.with_policy(found.policy)
            policy = self._with_forms(current, planner.policy, trace)
            content = {**found.model_dump(mode="json"), "policy": policy.model_dump(mode="json")}
            trace.add(Note(name=TUNED, content=content))
        return planner.with_policy(Policy.model_validate(trace.notes[TUNED]["policy"]))

    def _with_forms(self, planner: Planner, wishes: Policy, trace: Trace) -> Policy:
        """The policy with better forms of the most sensitive ops."""
        try:
            retuned = self.retune(planner, wishes, self.rank(planner))
        except OutOfTimeError:
            return planner.policy
        trace.add(Note(name=SENSITIVITY, content=retuned.sensitivity))
        trace.add(Note(name=RETUNED, content=retuned.model_dump(mode="json")))
        return planner.with_forms(retuned.forms).policy

    def _until(self, tick: Callable[[int], None], share: float = 1.0) -> Callable[[int], None]:
        """`tick`, which also ends the work when this share of the time that is left has passed."""
        if self.deadline is None:
            return tick
        now = time.monotonic()
        end = now + share * (self.deadline - now)

        def checked(done: int) -> None:
            tick(done)
            if time.monotonic() >= end:
                raise OutOfTimeError

        return checked

    def _samples(self, planner: Planner, count: int, others: int = 0) -> list[Any]:
        """So many samples, spread over those that calibration saw; with `others` none of those that number gives."""
        seen = max(s.count for s in planner.statistics.tensors.values())
        total = min(seen, self.subset_size, self.calibration.get_length() or seen)
        taken = _spread(range(total), others) if others else []
        left = [i for i in range(total) if i not in taken]
        return list(self.calibration.get_inference_data(_spread(left or list(range(total)), count)))


def count_presets(policy: Policy, samples: int) -> Effort:
    """The work of `choose_presets`, about: those that turn out better are tried together once more."""
    models = 2 + len(presets(policy))
    return Effort(models, models * min(SAMPLES, samples))


def count_retuning(ops: int, samples: int, ranking_size: int) -> Effort:
    """The work of `Tuner.retune`, at most."""
    ranked, unseen = min(ranking_size, samples), min(CHECKED, samples)
    return Effort(VARIANTS + 3, VARIANTS * ranked * (min(MOST_OPS, ops) + 1) + 3 * unseen)


def _spread(indices: Any, count: int) -> list[int]:
    """`count` of the indices, evenly spaced with both ends, in ascending order."""
    places = np.linspace(0, len(indices) - 1, min(count, len(indices)))
    return sorted({int(indices[int(place)]) for place in places})
