"""The one place where an executor is chosen."""

from __future__ import annotations

from typing import Any, Literal, get_args

from maxdrop.errors import ValidationError
from maxdrop.executors.materials import Materials
from maxdrop.executors.serial import SerialExecutor
from maxdrop.executors.stage import Stage
from maxdrop.search.scoring import Scorer
from maxdrop.search.session import Executor

ExecutorName = Literal["serial", "processes"]


def check_executor(name: str, workers: int | None) -> None:
    """Refuse an executor that does not exist, or a wrong number of workers.

    Raises:
        ValidationError: see the message.
    """
    if name not in get_args(ExecutorName):
        message = f"`executor` must be one of {get_args(ExecutorName)}, but got {name!r}"
        raise ValidationError(message)
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        message = f"`workers` must be an integer >= 1, or None to choose by cores and memory, but got {workers!r}"
        raise ValidationError(message)
    if workers is not None and name == "serial":
        message = f"`workers` must be None with executor='serial', which has none, but got {workers}"
        raise ValidationError(message)


def make_executor(
    name: ExecutorName,
    workers: int | None,
    materials: Materials[Any],
    scorers: tuple[Scorer, Scorer],
    stage: Stage,
) -> Executor:
    """The executor of this name.

    Args:
        name: see `maxdrop.control_accuracy`.
        workers: see `maxdrop.control_accuracy`.
        materials: of candidates.
        scorers: for this process and for others.
        stage: shows progress.

    Raises:
        ValidationError: something that must be picklable is not.
    """
    local = SerialExecutor(materials, scorers[0])
    if name == "serial":
        return local
    from maxdrop.executors.processes import ProcessExecutor  # and with it loky, only when it is used

    return ProcessExecutor(materials, scorers[1], local, workers, stage)
