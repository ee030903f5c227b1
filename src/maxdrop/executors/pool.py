"""Worker processes that may die: a task whose worker died runs again in another one.

loky starts them, by fork and exec: a plain fork of a process in which OpenVINO has threads can hang, and `spawn` would
run the user's script again in every worker unless it is guarded. It pickles by cloudpickle, so functions of scripts
and notebooks work.
"""

from __future__ import annotations

import os
import pickle
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from contextlib import contextmanager, suppress
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from typing import Any

from loky import BrokenProcessPool, ProcessPoolExecutor

from maxdrop.errors import WorkerError
from maxdrop.executors.resources import available_memory, usable_cores
from maxdrop.executors.worker import RUNNING, Answer, Failure, Task, start, work

MOST_DEATHS = 3
"""Workers that may die while they run one task."""

_STARTING = -1
"""Stands for a task where workers die before they have begun any."""

_MEMORY_SHARE = 0.8
"""Share of the available memory that workers may take: the user's function may need more later."""

_THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class RemoteTraceback(Exception):
    """Shown above an exception of a worker, as its cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class WorkerPool:
    """Runs tasks in worker processes; the first task starts them.

    Args:
        folder: where the workers find their job; see `Station`.
        workers: how many; None takes one for each core as far as memory allows, by what the first task needed.
    """

    def __init__(self, folder: Path, workers: int | None) -> None:
        self._folder = folder
        self.workers = workers
        self._processes: ProcessPoolExecutor | None = None
        self._end: BrokenProcessPool | None = None
        (folder / RUNNING).mkdir()

    def run(self, tasks: Sequence[Task], progress: Callable[[int], None] = lambda done: None) -> list[Any]:
        """What the tasks give, in the order of the tasks.

        Args:
            tasks: to run, in any order and in any worker.
            progress: called with the number of tasks that are done.

        Raises:
            Exception: whatever a task raises, with the worker's traceback as its cause.
            WorkerError: a task's worker died again and again.
        """
        answers: dict[int, Answer] = {}
        deaths: Counter[int] = Counter()
        self._dead_tasks()  # of a call that was cut off
        try:
            while len(answers) < len(tasks):
                before = len(answers)
                todo = [number for number in range(len(tasks)) if number not in answers]
                for number, answer in self._finished(tasks, todo[:1] if self.workers is None else todo):
                    answers[number] = answer
                    progress(len(answers))
                    if self.workers is None:
                        self._settle(answer.peak)
                if len(answers) > before:
                    deaths[_STARTING] = 0
                deaths.update(self._dead_tasks() or ([_STARTING] if len(answers) == before else []))
                self._check_deaths(deaths, tasks)
        except BaseException:
            self.close()
            raise
        return [answers[number].value for number in range(len(tasks))]

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        if self._processes is not None:
            self._processes.shutdown(wait=True, kill_workers=True)
            self._processes = None

    def _finished(self, tasks: Sequence[Task], todo: Sequence[int]) -> Iterator[tuple[int, Answer]]:
        """Those of the tasks that come to an end; fewer than `todo` when a worker dies."""
        for future, number in self._submitted(tasks, todo):
            try:
                answer: Answer = future.result()
            except BrokenProcessPool as error:
                self._end = error
                self.close()
                continue
            if answer.failure is not None:
                _raise(answer.failure)
            yield number, answer

    def _submitted(self, tasks: Sequence[Task], todo: Sequence[int]) -> Iterator[tuple[Future[Any], int]]:
        futures: dict[Future[Any], int] = {}
        if self._processes is None:
            ensure_running()  # not below: this process that loky needs unblocks interrupts when it has started
            self._processes = ProcessPoolExecutor(
                self.workers or 1,
                initializer=start,
                initargs=(os.getpid(), self._folder),
                env={name: os.environ.get(name, value) for name, value in _THREADS.items()},
            )
        with _deaf_to_interrupts(), suppress(BrokenProcessPool):  # what is not submitted waits for the next round
            for number in todo:
                futures[self._processes.submit(work, self._folder, number, tasks[number])] = number
        with warnings.catch_warnings():
            # loky replaces a worker that has grown much; that one compiled a larger model is no news to the user
            warnings.filterwarnings("ignore", "A worker was restarted", UserWarning)
            for future in as_completed(futures):
                yield future, futures[future]
        if not futures:
            self.close()

    def _settle(self, peak: int) -> None:
        """Decide how many workers there are, by what the first of them has needed."""
        self.workers = count_workers(usable_cores(), available_memory(), peak)
        if self.workers > 1:
            self.close()

    def _dead_tasks(self) -> list[int]:
        """The tasks in which a worker ended; each is told once."""
        marks = list((self._folder / RUNNING).iterdir())
        for mark in marks:
            mark.unlink()
        return [int(mark.name) for mark in marks]

    def _check_deaths(self, deaths: Mapping[int, int], tasks: Sequence[Task]) -> None:
        worst = max(deaths, key=lambda number: deaths[number], default=_STARTING)
        if deaths.get(worst, 0) < MOST_DEATHS:
            return
        when = "before they had begun any task" if worst == _STARTING else f"during this task: {tasks[worst]!r:.300}"
        message = (
            f"a worker process must live through its tasks, but {MOST_DEATHS} of them died {when}. If memory ran out, "
            "pass fewer `workers`; if the validation function crashes, executor='serial' shows where"
        )
        raise WorkerError(message) from self._end


def count_workers(cores: int, memory: int, peak: int) -> int:
    """How many workers there are room for, at least one and at most one for each core.

    Args:
        cores: that may be used.
        memory: bytes that are left beside the first worker.
        peak: bytes that the first worker has needed at most; 0 where that is not known.
    """
    more = int(_MEMORY_SHARE * memory / peak) if peak else cores
    return max(1, min(cores, 1 + more))


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes that start in here never see Ctrl-C: it is the parent that ends them, and that says why."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _raise(failure: Failure) -> None:
    origin = RemoteTraceback(failure.traceback)
    if failure.error is None:
        message = f"a worker process raised an exception that cannot be sent here: {failure.text}"
        raise WorkerError(message) from origin
    raise pickle.loads(failure.error) from origin
