from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maxdrop.data.plan import Candidate
from maxdrop.data.spec import Policy, Precision
from maxdrop.data.trace import Trace, TraceHeader, read_trace
from maxdrop.errors import InternalError
from maxdrop.executors.materials import Materials
from maxdrop.executors.serial import SerialExecutor
from maxdrop.ptq.build import Planner
from maxdrop.ptq.calibration import calibration_requests
from maxdrop.search.criterion import Criterion
from maxdrop.search.limits import Limits
from maxdrop.search.scoring import Scorer
from maxdrop.testing.toy_backend import ToyBackend
from maxdrop.testing.toy_model import ToyModel
from tests.toys import toy_model, toy_samples


class Items:
    positions = 3

    def items(self, positions: Any = None) -> list[int]:
        return [0, 1, 2] if positions is None else list(positions)


class Metric:
    def __init__(self, *returned: Any) -> None:
        self.returned = list(returned)
        self.calls = 0

    def __call__(self, compiled: Any, items: Any) -> Any:
        self.calls += 1
        value = self.returned.pop(0)
        if isinstance(value, Exception):
            raise value
        return value


def executor(metric: Metric, path: Path | None = None) -> tuple[SerialExecutor[ToyModel], Trace]:
    backend, model = ToyBackend(), toy_model()
    graph = backend.graph(model)
    requests = calibration_requests(graph, [node.name for node in graph if node.contraction is not None])
    statistics = backend.observe(model, requests, toy_samples(4), lambda done: None)
    trace = Trace(path, TraceHeader(versions={}, model=graph.fingerprint, settings={}))
    scorer = Scorer(metric, Items(), Limits(criteria={"": Criterion(max_drop=0.1)}))
    materials = Materials(backend, model, Planner(graph, Policy(), statistics), {}, trace)
    return SerialExecutor(materials, scorer), trace


def test_an_equal_candidate_is_answered_from_the_trace() -> None:
    metric = Metric(0.9, 0.5)
    made, _ = executor(metric)
    made.score_float()
    assert not made.knows(Candidate())
    first = made.run(Candidate(), "int8")
    assert made.knows(Candidate())
    assert made.run(Candidate(), "search") == first
    assert made.score_float().metric == 0.9
    assert metric.calls == 2
    assert first.drop == pytest.approx(0.4)


def test_an_error_of_the_users_function_is_on_disk_and_the_candidate_can_run_again(tmp_path: Path) -> None:
    made, _ = executor(Metric(0.9, OSError("disk full"), 0.8), tmp_path / "trace.jsonl")
    made.score_float()
    with pytest.raises(OSError, match="disk full"):
        made.run(Candidate(), "int8")
    trials = read_trace(tmp_path / "trace.jsonl")[1]
    assert [(t.state, t.error, t.validations) for t in trials[1:]] == [("failed", "OSError: disk full", 0.0)]
    assert made.run(Candidate(), "int8").drop == pytest.approx(0.1)


def test_every_trial_is_on_disk_before_the_next_one_starts(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    made, _ = executor(Metric(0.9, 0.8, 0.7), path)
    made.score_float()
    made.run(Candidate(), "int8")
    made.run(Candidate().with_precision({"a": Precision.FLOAT}), "search")
    assert [t.metric for t in read_trace(path)[1]] == [0.9, 0.8, 0.7]


def test_a_candidate_needs_the_float_metric() -> None:
    made, _ = executor(Metric(0.9))
    with pytest.raises(InternalError, match="float model must be scored"):
        made.run(Candidate(), "int8")
