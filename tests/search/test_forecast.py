"""The forecast counts what a search then really does: on the toy backend, which counts, and on OpenVINO."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

from maxdrop import demo
from maxdrop.control import AccuracyControl, ControlOptions
from maxdrop.data.graph import Graph
from maxdrop.data.plan import QuantizationPlan
from maxdrop.data.protocols import Switchable
from maxdrop.data.spec import Policy
from maxdrop.data.statistics import Statistics
from maxdrop.dataset import Dataset
from maxdrop.options import AdvancedAccuracyRestorerParameters
from maxdrop.preparation import Prepared, open_and_resolve
from maxdrop.progress import ProgressReporter
from maxdrop.resolve import QuantizeOptions
from maxdrop.result import AccuracyControlResult
from maxdrop.search.criterion import Criterion
from maxdrop.search.forecast import Forecast, Rates, Task, Timings, forecast, in_words
from maxdrop.search.payoff import Payoff
from maxdrop.testing.toy_backend import ToyBackend, ToyCompiled
from maxdrop.testing.toy_model import ToyModel
from tests.small_task import accuracy, datasets
from tests.toys import toy_model, toy_samples

RATES = Rates(forward=0.001, compiling=0.1, sample=0.0, block=0.02)
SAMPLES = toy_samples(60, seed=2)


class CountingBackend(ToyBackend):
    """The toy backend; knows how many models were compiled, and for what."""

    def __init__(self) -> None:
        super().__init__()
        self.compiles: dict[str, int] = {}

    def _count(self, name: str, models: int) -> None:
        self.compiles[name] = self.compiles.get(name, 0) + models

    def compile(self, model: ToyModel, config: Mapping[str, Any]) -> ToyCompiled:
        self._count("compile", 1)
        return super().compile(model, config)

    def observe(self, *arguments: Any, **options: Any) -> Statistics:
        self._count("observe", 1)
        return super().observe(*arguments, **options)

    def switchable(self, model: ToyModel, plan: QuantizationPlan) -> Switchable:
        self._count("switchable", 1)
        return super().switchable(model, plan)

    def outputs(self, model: ToyModel, config: Mapping[str, Any], samples: Iterable[Any]) -> Iterator[list[Any]]:
        self._count("outputs", 1)
        return super().outputs(model, config, samples)

    def latency(
        self, models: Sequence[ToyModel], config: Mapping[str, Any], samples: Sequence[Any], blocks: int
    ) -> NDArray[np.float64]:
        self._count("latency", len(models))
        return super().latency(models, config, samples, blocks)

    def op_seconds(
        self, models: Sequence[ToyModel], config: Mapping[str, Any], sample: Any, graph: Graph
    ) -> list[dict[str, float]]:
        self._count("op_seconds", len(models))
        return super().op_seconds(models, config, sample, graph)


def score(compiled: ToyCompiled, items: Any) -> float:
    """A metric that quantization lowers."""
    exact = toy_model()
    return -float(np.mean([np.abs(compiled(x)[0] - exact.run(x)[0]).mean() for x in items]))


def toy_search(
    max_drop: float, tunes: bool = False, **chosen: Any
) -> tuple[CountingBackend, Forecast, AccuracyControlResult]:
    """Forecast, then run; the backend has counted the run alone."""
    backend, model = CountingBackend(), toy_model()
    prepared = Prepared(backend, model, backend.graph(model), Policy(placement="measured"))
    settings = {"allow_slower": True, **chosen}
    restorer = AdvancedAccuracyRestorerParameters(tune_hyperparams=tunes)
    options = ControlOptions(Criterion(max_drop=max_drop), restorer, {}, None, None, **settings)
    made = AccuracyControl(prepared, QuantizeOptions(), options, ProgressReporter(False))
    data = Dataset(toy_samples(8)), Dataset(SAMPLES)
    predicted = made.forecast(*data, score)
    backend.compiles.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return backend, predicted, made.run(*data, score)


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_an_easy_search_costs_what_was_forecast_at_least() -> None:
    backend, predicted, result = toy_search(max_drop=1e9, holdout=0.2)
    assert result.reached
    assert sum(backend.compiles.values()) == predicted.least.compiles
    assert sum(t.validations for t in result.trace.trials) == predicted.least.validations == 2


def test_a_search_with_candidates_costs_what_was_forecast() -> None:
    backend, predicted, result = toy_search(max_drop=1e-6)
    done = sum(t.validations for t in result.trace.trials)
    assert 2 < done <= predicted.most.validations == 16  # on few items
    # Each validation compiles one model, so the work at another number of them is known.
    assert sum(backend.compiles.values()) - done <= predicted.most.compiles - predicted.most.validations
    steps = {step.name: step for step in predicted.most.steps}
    retuned = backend.compiles["switchable"] - steps["ranking"].compiles + backend.compiles.get("outputs", 0)
    assert 0 < retuned <= steps["retuning"].compiles
    assert steps["timing ops"].compiles == backend.compiles["op_seconds"]
    assert steps["ranking"].forwards == 4 * (predicted.int8_ops + 1)


def test_tuning_first_costs_what_was_forecast() -> None:
    backend, predicted, result = toy_search(max_drop=1e9, tunes=True)
    done = sum(backend.compiles.values())
    assert result.reached
    assert [step.name for step in predicted.least.steps][2:5] == ["tuning", "ranking", "retuning"]
    # Presets that turn out better are tried together once more, and a ranking with no better form ends early.
    assert 0.8 * predicted.least.compiles <= done <= 1.3 * predicted.least.compiles


def test_a_result_that_was_timed_to_choose_its_ops_is_not_timed_again_and_one_from_the_cache_is() -> None:
    backend, _, result = toy_search(max_drop=1e9)
    payoff = Payoff.model_validate(result.trace.notes["payoff"])
    assert result.latency == payoff.speed_of(result.plan.int8_ops) is not None
    again, _, _ = toy_search(max_drop=1e9)
    assert again.compiles["latency"] == 2
    assert backend.compiles["latency"] == 1 + len(payoff.variants)


class SlowInt8(CountingBackend):
    """The last of several models takes twice as long as the others; `afterwards` is called when they were timed."""

    def __init__(self, afterwards: Callable[[], None]) -> None:
        super().__init__()
        self.afterwards = afterwards

    def latency(
        self, models: Sequence[ToyModel], config: Mapping[str, Any], samples: Sequence[Any], blocks: int
    ) -> NDArray[np.float64]:
        self._count("latency", len(models))
        self.afterwards()
        times = np.ones((len(models), blocks))
        times[1:] *= 2.0
        return times


@pytest.mark.parametrize(
    ("allow_slower", "is_late", "timed"),
    [(True, False, 2), (False, False, 2 + 2 + 2 + 1), (False, True, 2 + 1)],
    ids=["wanted all the same", "three compilations agree", "the time is over"],
)
def test_a_slower_result_is_timed_again_where_that_decides(
    allow_slower: bool, is_late: bool, timed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadline = time.monotonic() + 1000.0

    def afterwards() -> None:
        if is_late:
            monkeypatch.setattr(time, "monotonic", lambda: deadline)

    backend, model = SlowInt8(afterwards), toy_model()
    prepared = Prepared(backend, model, backend.graph(model), Policy(placement="table"))
    restorer = AdvancedAccuracyRestorerParameters()
    options = ControlOptions(Criterion(max_drop=1e9), restorer, {}, deadline, None, allow_slower)
    control = AccuracyControl(prepared, QuantizeOptions(), options, ProgressReporter(False))
    result = control.run(Dataset(toy_samples(8)), Dataset(SAMPLES), score)
    assert result.reached is allow_slower
    assert backend.compiles["latency"] == timed


def test_a_changed_model_is_timed_even_if_its_ops_were() -> None:
    backend, _, result = toy_search(max_drop=1e9, tunes=True)
    assert result.plan.candidate.precisions == {}
    assert backend.compiles["latency"] > len(result.trace.notes["payoff"]["variants"]) + 1


def test_what_was_measured_before_is_not_counted_again() -> None:
    first = toy_search(max_drop=1e9)[1]
    second = toy_search(max_drop=1e9)[1]
    names = [step.name for step in second.least.steps]
    assert "measuring what pays" not in names
    assert "measuring what pays" in [step.name for step in first.least.steps]


def test_compilations_on_openvino_are_as_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    calibration, validation = datasets(calibration=6, validation=20)
    options = QuantizeOptions(placement="table")
    control = ControlOptions(
        Criterion(max_drop=1.0), AdvancedAccuracyRestorerParameters(), {}, None, None, allow_slower=True
    )
    prepared = open_and_resolve(demo.load_model(), options)
    made = AccuracyControl(prepared, options, control, ProgressReporter(False))
    predicted = made.forecast(calibration, validation)
    compiled: list[Any] = []
    compile_model = ov.Core.compile_model

    def counted(core: ov.Core, *arguments: Any, **more: Any) -> Any:
        compiled.append(arguments)
        return compile_model(core, *arguments, **more)

    monkeypatch.setattr(ov.Core, "compile_model", counted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert made.run(calibration, validation, accuracy).reached
    # The result is timed once more in other compilations where a busy machine makes it look slower.
    assert predicted.least.compiles <= len(compiled) <= predicted.least.compiles + 4
    assert [(s.name, s.forwards) for s in predicted.least.steps][:3] == [
        ("calibration", 6),
        ("validation", 2 * 20),
        ("repeatability", 2 * 16),
    ]


def test_seconds_are_those_of_the_validation_function_where_it_was_timed() -> None:
    task = Task(
        int8_ops=10, calibration_samples=100, validation_items=1000, repeated_items=16, held_out_items=0,
        ranking_samples=4, max_validations=10, result=Timings(2, 2, 7, 15),
    )  # fmt: skip
    blind = forecast(task, RATES)
    timed = forecast(task, Rates(RATES.forward, RATES.compiling, RATES.sample, RATES.block, item=0.1))
    assert blind.typical.seconds is not None
    assert timed.typical.seconds is not None
    assert timed.typical.seconds - blind.typical.seconds == pytest.approx(6032 * (0.1 - 0.001), rel=0.02)
    assert "was not measured" in blind.summary()
    assert "was not measured" not in timed.summary()


def test_work_is_the_sum_of_its_steps() -> None:
    task = Task(
        int8_ops=10, calibration_samples=100, validation_items=1000, repeated_items=16, held_out_items=50,
        ranking_samples=4, max_validations=10, what_pays=Timings(2, 8, 12, 8), profiled_models=2,
        result=Timings(2, 2, 7, 15),
    )  # fmt: skip
    predicted = forecast(task, RATES)
    for work in (predicted.least, predicted.typical, predicted.most):
        assert work.compiles == sum(step.compiles for step in work.steps)
        assert work.forwards == sum(step.forwards or 0 for step in work.steps)
    costs = [predicted.least.seconds or 0.0, predicted.typical.seconds or 0.0, predicted.most.seconds or 0.0]
    assert costs == sorted(costs)


def test_an_unknown_number_of_items_leaves_forwards_and_seconds_open() -> None:
    task = Task(
        int8_ops=10, calibration_samples=100, validation_items=None, repeated_items=16, held_out_items=0,
        ranking_samples=4, max_validations=10,
    )  # fmt: skip
    predicted = forecast(task, RATES)
    assert predicted.typical.forwards is None
    assert predicted.typical.seconds is None
    assert "unknown number" in predicted.summary()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (4.44, "4.4 s"), (27, "27 s"), (99, "99 s"), (270, "4.5 min"), (7200, "2.0 h")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
