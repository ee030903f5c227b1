"""One task under one setup, calibrated once: the switchable model, and real int8 models for any set of float ops."""

from collections.abc import Iterable, Sequence
from typing import Any

import openvino as ov

from benchmarks.studies.distances import Array
from benchmarks.studies.hard import quantize_options
from benchmarks.task import Task, load_task
from maxdrop.data.plan import Candidate
from maxdrop.data.spec import Precision
from maxdrop.dataset import Dataset
from maxdrop.preparation import calibrate, open_and_resolve
from maxdrop.progress import ProgressReporter
from maxdrop.ptq.build import Planner
from maxdrop.search.sensitivity import add_weight_error

_CALIBRATION = 300
_PAIR = frozenset("ab")


class Lab:
    """Everything that the experiments need of one task.

    Args:
        task: its name.
        setup: how int8 is made; see `hard`.
        seed: of the split of the items.
        calibration: number of items that set the ranges.
    """

    def __init__(self, task: str, setup: str, seed: int = 0, calibration: int = _CALIBRATION) -> None:
        self.task: Task = load_task(task)
        self.split = self.task.split(seed)
        options = quantize_options(setup)
        prepared = open_and_resolve(self.task.model(), options)
        dataset = Dataset(self.split.calibration, self.task.transform)
        found = calibrate(prepared, dataset, calibration, ProgressReporter(False))
        self._planner = Planner(prepared.graph, prepared.policy, found.statistics)
        self._backend, self._model = prepared.backend, prepared.model
        self._plan = self._planner(Candidate())
        self._switchable = self._backend.switchable(self._model, self._plan)
        self.ops: tuple[str, ...] = tuple(self._switchable.ops)

    def outputs(self, item: Any, on: Iterable[str]) -> list[Array]:
        """First output of every inference of one item, with the activations of the ops in `on` quantized."""
        on = tuple(on)
        return [self._switchable.run(feed, on)[0] for feed in self._feeds(item)]

    def run(self, compiled: ov.CompiledModel, item: Any) -> list[Array]:
        """First output of every inference of one item."""
        return [compiled(feed)[0].copy() for feed in self._feeds(item)]

    def simulated_metric(self, items: Sequence[Any], on: Iterable[str]) -> float:
        """The task's metric with the activations of the ops in `on` quantized."""
        return float(self.task.validate(_Simulated(self._switchable, tuple(on)), items)[0])

    def compiled(self, floats: Iterable[str]) -> ov.CompiledModel:
        """The real int8 model, with `floats` left float."""
        plan = self._planner(Candidate().with_precision(dict.fromkeys(floats, Precision.FLOAT)))
        return self._compile(self._backend.apply(self._model, plan, self._planner.arrays))

    def compiled_float(self) -> ov.CompiledModel:
        """The float model."""
        return self._compile(self._model)

    def with_weights(self, sensitivity: dict[str, float]) -> dict[str, float]:
        """Sensitivities of activations, with the error of the weights added as the search does it."""
        return add_weight_error(
            sensitivity, self._planner.graph, self._plan, self._planner.statistics, self._planner.arrays
        )

    def _compile(self, model: ov.Model) -> ov.CompiledModel:
        return self._backend.compile(model, {"INFERENCE_PRECISION_HINT": "f32"})

    def _feeds(self, item: Any) -> list[Any]:
        if isinstance(item, dict) and item.keys() >= _PAIR:
            return [item["a"], item["b"]]
        return [self.task.transform(item)]


class _Simulated:
    """The switchable model in the place of a compiled model, as far as the tasks' functions use one."""

    def __init__(self, switchable: Any, on: tuple[str, ...]) -> None:
        self._switchable = switchable
        self._on = on

    def __call__(self, feed: Any) -> list[Array]:
        return list(self._switchable.run(feed, self._on))

    def create_infer_request(self) -> "_Simulated":
        """Itself: one request at a time is all that is asked for."""
        return self

    def infer(self, feeds: Sequence[Any]) -> list[Array]:
        """One inference of a model with one input."""
        return self(feeds[0])
