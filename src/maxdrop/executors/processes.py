"""Trials in several processes of this machine.

Shared out are the ranking, by op and sample, and the validation of candidates where the metric is known to be the mean
of values per item, by chunks of items. Neither the pieces nor the threads of a worker depend on the number of workers,
and pieces are put together in a fixed order; so the result does not depend on it either.

What has to be scored by one call of the user's function is scored in the parent, with all cores and by the serial
executor: the float and the fully quantized model, every candidate of any other metric, and the winner.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic

import cloudpickle
import numpy as np

from maxdrop.data.plan import Candidate, QuantizationPlan
from maxdrop.data.protocols import Backend, ModelT
from maxdrop.data.trace import Role, Trial
from maxdrop.errors import ValidationError
from maxdrop.executors.materials import Materials
from maxdrop.executors.pool import WorkerPool
from maxdrop.executors.recorder import SHARED_OUT, Recorder
from maxdrop.executors.serial import SerialExecutor
from maxdrop.executors.stage import Stage, Tick, unseen
from maxdrop.executors.worker import FLOAT, JOB, Job, RankOps, ScoreItems
from maxdrop.ptq.build import Planner
from maxdrop.search.limits import Measurement
from maxdrop.search.rejection import Rejection
from maxdrop.search.repeatability import REPEATED_ITEMS
from maxdrop.search.scoring import Rejected, Scorer, score_parts
from maxdrop.search.sensitivity import mean_over_samples

_CHUNKS = 64
_FEWEST_ITEMS = REPEATED_ITEMS
_OPS = 8


class ProcessExecutor(Generic[ModelT]):
    """Like `SerialExecutor`, with workers for what can be shared out.

    Args:
        materials: of candidates; backend and compile configuration are picklable.
        scorer: scores a compiled model; picklable.
        local: scores in this process.
        workers: number of processes; None for as many as cores and memory allow.
        stage: shows progress.

    Raises:
        ValidationError: something cannot be pickled.
    """

    def __init__(
        self,
        materials: Materials[ModelT],
        scorer: Scorer,
        local: SerialExecutor[ModelT],
        workers: int | None = None,
        stage: Stage = unseen,
    ) -> None:
        self._materials = materials
        self._recorder = Recorder(scorer.limits, materials.trace)
        self._local = local
        self._stage = stage
        job = Job(materials.backend, scorer, dict(materials.config))
        content = pickled(job, {**scorer.ingredients, "compile_config": materials.config})
        self.folder = Path(tempfile.mkdtemp(prefix="maxdrop-workers-"))
        (self.folder / JOB).write_bytes(content)
        self._pool = WorkerPool(self.folder, workers)

    def follow(self, planner: Planner) -> None:
        """Make plans with this planner from now on."""
        self._materials = replace(self._materials, planner=planner)
        self._local.follow(planner)

    def score_float(self) -> Trial:
        """The float model's trial."""
        return self._local.score_float()

    def knows(self, candidate: Candidate) -> bool:
        """Whether `run` would answer from the trace."""
        return self._local.knows(candidate)

    def run(self, candidate: Candidate, role: Role, rule: Rejection | None = None) -> Trial:
        """The candidate's trial, from the trace if an equal plan was scored before.

        Args:
            candidate: to build and score.
            role: what the trial is for.
            rule: when to stop scoring a candidate that fails; None always scores all items, in this process.
        """
        if rule is None or self.knows(candidate):
            return self._local.run(candidate, role, rule)
        plan = self._materials.planner(candidate)
        return self._recorder.record(role, candidate, plan.key(), lambda: self._score(plan, rule))

    def confirm(self, trial: Trial) -> Trial:
        """See `SerialExecutor.confirm`."""
        return self._local.confirm(trial)

    def sensitivity(self, plan: QuantizationPlan, samples: Sequence[Any], progress: Tick) -> dict[str, float]:
        """Output NMSE with each op of the plan alone quantized; see `measure_sensitivity`."""
        if not self._reads_the_same:
            return self._local.sensitivity(plan, samples, progress)
        content = self._shared(cloudpickle.dumps(plan))
        names = [self._shared(pickled(sample, {"the calibration samples": sample})) for sample in samples]
        blocks = [plan.int8_ops[i : i + _OPS] for i in range(0, len(plan.int8_ops), _OPS)]
        tasks = [RankOps(content, name, block) for name in names for block in blocks]
        ends = np.cumsum([len(task.ops) for task in tasks]).tolist()
        found = self._pool.run(tasks, lambda done: progress(ends[done - 1]))
        rows: list[dict[str, float]] = [{} for _ in names]
        for number, distances in enumerate(found):
            rows[number // len(blocks)].update(distances)
        return mean_over_samples(rows)

    def close(self) -> None:
        """End the workers and remove what they read."""
        self._pool.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _shared(self, content: bytes) -> str:
        """Name of a file with this content, which is all that its name depends on: workers remember files by name."""
        path = self.folder / f"{sha256(content).hexdigest()}.pkl"
        if not path.exists():
            path.write_bytes(content)
        return path.name

    @cached_property
    def _reads_the_same(self) -> bool:
        """Whether the float model, written for the workers, is the same when it is read again."""
        backend = self._materials.backend
        backend.save(self._materials.model, self.folder / FLOAT)
        # By a copy of the backend: this one remembers what it has seen of the user's model.
        copy: Backend[ModelT] = cloudpickle.loads(cloudpickle.dumps(backend))
        return copy.graph(copy.load(self.folder / FLOAT)).fingerprint == self._materials.planner.graph.fingerprint

    def _may_share_out(self) -> bool:
        """Whether candidates may be scored in workers; asked once for a trace."""
        if "used" not in self._recorder.note(SHARED_OUT):
            reason = self._obstacle()
            self._recorder.add_to_note(SHARED_OUT, {"used": not reason, "reason": reason, "plans": []})
        return bool(self._recorder.note(SHARED_OUT)["used"])

    def _obstacle(self) -> str:
        """Why candidates may not be scored in workers; empty where they may."""
        floating = self._recorder.floating
        if floating is None or floating.per_item is None:
            return "the validation function returns no numbers per item"
        if not self._reads_the_same:
            return "the float model is another one when it is written and read again"
        known = floating.per_item[:REPEATED_ITEMS]
        found = self._pool.run([ScoreItems(FLOAT, tuple(range(len(known))))])
        return "" if found == [known] else "items get another number in a worker process than here"

    def _score(self, plan: QuantizationPlan, rule: Rejection) -> Measurement | Rejected:
        if not self._may_share_out():
            return self._local.score(plan, rule)
        file = f"{plan.key()}.xml"
        self._materials.backend.save(self._materials.build(plan), self.folder / file)
        shared = self._recorder.note(SHARED_OUT)["plans"]
        self._recorder.add_to_note(SHARED_OUT, {"plans": [*shared, plan.key()]})
        try:
            found = score_parts(rule, lambda positions: self._values(file, positions, len(rule.order)))
        finally:
            for path in self.folder.glob(f"{plan.key()}.*"):
                path.unlink()
        return self._local.score(plan) if found is None else found

    def _values(self, file: str, positions: Sequence[int], total: int) -> list[float] | None:
        """One number for each item at `positions`, in that order; None where they do not make up the metric."""
        size = max(_FEWEST_ITEMS, -(-total // _CHUNKS))
        chunks = np.array_split(np.asarray(positions), max(1, len(positions) // size))
        tasks = [ScoreItems(file, tuple(chunk.tolist())) for chunk in chunks]
        with self._stage("validating", len(tasks)) as tick:
            found = self._pool.run(tasks, tick)
        return None if any(part is None for part in found) else [value for part in found for value in part]


def pickled(whole: Any, parts: Mapping[str, Any]) -> bytes:
    """`whole` as workers can read it.

    Args:
        whole: what is sent, in one piece: what its parts share is sent once.
        parts: what it is made of, by the names that the user knows.

    Raises:
        ValidationError: it cannot be pickled; says which part it is.
    """
    try:
        return bytes(cloudpickle.dumps(whole))
    except Exception as error:  # pickling runs methods of any object
        culprits = [name for name, part in parts.items() if not _can_be_pickled(part)]
        message = (
            f"executor='processes' sends {', '.join(parts)} to worker processes, so all of it must be picklable, but "
            f"{', '.join(culprits) or 'something'} is not: {type(error).__name__}: {error}. Open files, locks and "
            "models inside the function that uses them, or use executor='serial'"
        )
        raise ValidationError(message) from error


def _can_be_pickled(part: Any) -> bool:
    try:
        cloudpickle.dumps(part)
    except Exception:  # as above
        return False
    return True
