"""What happens inside a worker process.

A worker reads the job once, at its first task: the user's function and data, the backend, the float model. It keeps
the model that it compiled last, because the next task is mostly about the same one.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import cloudpickle

from maxdrop.data.plan import QuantizationPlan
from maxdrop.data.protocols import Backend, Switchable
from maxdrop.executors.resources import peak_memory
from maxdrop.search.scoring import Scorer
from maxdrop.search.sensitivity import Outputs, op_distance

FLOAT = "float.xml"
JOB = "job.pkl"
RUNNING = "running"

THREADS = 1
"""Threads of inference in a worker. Not the machine's cores over the number of workers: some kernels sum in another
order with another number of threads (MVN over several axes does), and the result must not depend on the workers."""

_WATCH_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """What every worker needs, for the whole search.

    Attributes:
        backend: picklable; a copy opens its framework anew.
        scorer: with the user's function and the validation data.
        config: the user's compile configuration.
    """

    backend: Backend[Any]
    scorer: Scorer
    config: Mapping[str, Any]


class Station:
    """A worker's job and what it has at hand.

    Args:
        folder: where the job and all models are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.job: Job = cloudpickle.loads((folder / JOB).read_bytes())
        self.job.backend.limit_threads(THREADS)
        self._compiled: tuple[str, Any] = ("", None)
        self._switchable: tuple[str, Switchable | None] = ("", None)
        self._reference: tuple[str, Outputs] = ("", [])

    @cached_property
    def model(self) -> Any:
        """The float model."""
        return self.job.backend.load(self.folder / FLOAT)

    def compiled(self, file: str) -> Any:
        """The compiled model of a file; one is kept."""
        if self._compiled[0] != file:
            self._compiled, self._switchable, self._reference = ("", None), ("", None), ("", [])  # memory first
            model = self.model if file == FLOAT else self.job.backend.load(self.folder / file)
            self._compiled = (file, self.job.backend.compile(model, self.job.config))
        return self._compiled[1]

    def switchable(self, plan: str) -> Switchable:
        """The float model with the switches of a plan; one is kept."""
        found = self._switchable[1]
        if found is None or self._switchable[0] != plan:
            self._compiled, self._switchable, self._reference = ("", None), ("", None), ("", [])
            content: QuantizationPlan = cloudpickle.loads((self.folder / plan).read_bytes())
            found = self.job.backend.switchable(self.model, content)
            self._switchable = (plan, found)
        return found

    def reference(self, switchable: Switchable, sample: str) -> tuple[Any, Outputs]:
        """A sample and its outputs with nothing quantized; those of one sample are kept."""
        content = cloudpickle.loads((self.folder / sample).read_bytes())
        if self._reference[0] != sample:
            self._reference = (sample, switchable.run(content, ()))
        return content, self._reference[1]


class Task(Protocol):
    """A piece of work; it must give the same in every worker."""

    def run(self, station: Station) -> Any:
        """What the parent wants to know."""


@dataclass(frozen=True)
class ScoreItems:
    """Score some validation items with the user's function.

    Attributes:
        file: the model.
        positions: of the items, in ascending order.
    """

    file: str
    positions: tuple[int, ...]

    def run(self, station: Station) -> tuple[float, ...] | None:
        """One number for each item; None where they do not make up the metric."""
        return station.job.scorer.values(station.compiled(self.file), self.positions)


@dataclass(frozen=True)
class RankOps:
    """Quantize some ops one at a time and compare the outputs.

    Attributes:
        plan: file of the plan with all quantizers.
        sample: file of a calibration sample.
        ops: to switch.
    """

    plan: str
    sample: str
    ops: tuple[str, ...]

    def run(self, station: Station) -> dict[str, float]:
        """Output NMSE by op."""
        switchable = station.switchable(self.plan)
        sample, reference = station.reference(switchable, self.sample)
        return {op: op_distance(switchable, sample, reference, op) for op in self.ops}


@dataclass(frozen=True)
class Failure:
    """An exception of a task.

    Attributes:
        error: the exception, pickled; None where it cannot be.
        text: its type and message.
        traceback: as the worker would have printed it.
    """

    error: bytes | None
    text: str
    traceback: str


@dataclass(frozen=True)
class Answer:
    """What a worker sends back.

    Attributes:
        value: of the task.
        failure: why there is none.
        peak: most bytes that the worker has had in memory.
    """

    value: Any = None
    failure: Failure | None = None
    peak: int = 0


_STATIONS: dict[Path, Station] = {}


def start(parent: int, folder: Path) -> None:
    """Called once in every new worker.

    Ctrl-C is for the parent, which then ends the workers. None must outlive it, not even where it is killed; what it
    could not clean up then is removed here.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def work(folder: Path, number: int, task: Task) -> Answer:
    """Run a task.

    Args:
        folder: of the job.
        number: of the task; a file with this name is there while it runs, so that a death can be laid to it.
        task: to run.
    """
    mark = folder / RUNNING / str(number)
    mark.touch()
    try:
        if folder not in _STATIONS:
            _STATIONS[folder] = Station(folder)
        return Answer(task.run(_STATIONS[folder]), None, peak_memory())
    except BaseException as error:  # whatever it is, it is the parent's to raise
        return Answer(None, _failure(error), peak_memory())
    finally:
        mark.unlink(missing_ok=True)


def _failure(error: BaseException) -> Failure:
    text = "".join(traceback.format_exception_only(error)).strip()
    try:
        pickled = cloudpickle.dumps(error)
        cloudpickle.loads(pickled)
    except Exception:  # an exception may hold or demand anything
        pickled = None
    return Failure(pickled, text, "".join(traceback.format_exception(error)))
