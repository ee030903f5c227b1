from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import maxdrop as md
from maxdrop import demo
from maxdrop.backends.openvino.backend import OpenVINOBackend
from maxdrop.data.plan import Candidate
from maxdrop.data.spec import Policy, Precision
from maxdrop.data.trace import Trace, TraceHeader
from maxdrop.errors import ValidationError
from maxdrop.executors.materials import Materials
from maxdrop.executors.pool import count_workers
from maxdrop.executors.processes import ProcessExecutor
from maxdrop.executors.resources import available_memory, peak_memory
from maxdrop.executors.serial import SerialExecutor
from maxdrop.executors.worker import FLOAT, JOB, RUNNING, ScoreItems, work
from maxdrop.ptq.build import Planner
from maxdrop.ptq.calibration import calibration_requests
from maxdrop.ptq.payoff import choose_int8
from maxdrop.result import AccuracyControlResult
from maxdrop.search.criterion import Criterion
from maxdrop.search.limits import Limits
from maxdrop.search.rejection import Rejection, make_rejection
from maxdrop.search.scoring import Scorer
from maxdrop.search.session import Executor
from maxdrop.testing.executor_suite import (
    Closeness,
    ExecutorCase,
    ExecutorSuite,
    Items,
    candidates,
    make_case,
    without_seconds,
)
from maxdrop.testing.toy_model import ToyModel
from tests.executors.interrupted_run import search

ROOT = Path(__file__).parents[2]


def serial(case: ExecutorCase) -> SerialExecutor[ToyModel]:
    return SerialExecutor(case.materials, case.scorer)


def processes(case: ExecutorCase, workers: int | None = 1) -> ProcessExecutor[ToyModel]:
    return ProcessExecutor(case.materials, case.scorer, serial(case), workers)


class TestProcesses(ExecutorSuite):
    def make_executor(self, case: ExecutorCase) -> Executor:
        return processes(case)


class TestSerial(ExecutorSuite):
    has_workers = False

    def make_executor(self, case: ExecutorCase) -> Executor:
        return serial(case)


def content(result: AccuracyControlResult) -> Any:
    """All that must not depend on the executor."""
    trials = [trial.model_copy(update={"seconds": 0.0}) for trial in result.trace.trials]
    return result.plan, result.drop, trials, result.trace.notes["sensitivity"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> AccuracyControlResult:
    """What the serial executor finds."""
    found = search(tmp_path_factory.mktemp("serial"))
    assert found.reached
    assert any(trial.role == "search" for trial in found.trace.trials)
    return found


@pytest.mark.parametrize(("workers", "deaths"), [(1, 0), (2, 1), (3, 0)])
def test_a_search_ends_alike_with_any_number_of_workers_and_where_one_is_killed(
    tmp_path: Path, expected: AccuracyControlResult, workers: int, deaths: int
) -> None:
    for number in range(deaths):
        (tmp_path / f"die-{number}").touch()
    assert content(search(tmp_path, executor="processes", workers=workers)) == content(expected)
    assert list(tmp_path.glob("die-*")) == []


def test_workers_that_give_other_values_are_not_used_for_scoring(
    tmp_path: Path, expected: AccuracyControlResult
) -> None:
    found = search(tmp_path, executor="processes", workers=1, lie=1e-6)
    assert found.trace.notes["shared_out"]["reason"] == "items get another number in a worker process than here"
    assert content(found) == content(expected)


def test_a_winner_that_workers_flattered_is_not_returned(tmp_path: Path) -> None:
    found = search(tmp_path, executor="processes", workers=1, lie=0.03, honest=1)
    trials = found.trace.trials
    both = [[t for t in trials if t.plan_key == key] for key in found.trace.notes["confirmed"]]
    missed = [first for first, second in both if (first.drop or 0.0) <= 0.09 < (second.drop or 0.0)]
    assert missed
    assert all(second.drop == pytest.approx((first.drop or 0.0) + 0.03) for first, second in both)
    assert found.drop <= 0.09
    assert found.plan.key() not in {trial.plan_key for trial in missed}
    assert not found.reached or found.drop in {second.drop for _, second in both}


def test_openvino_in_workers_gives_what_it_gives_here(tmp_path: Path) -> None:
    backend, model = OpenVINOBackend(), demo.load_model()
    graph, samples = backend.graph(model), demo.calibration_items()[:3]
    policy = Policy(bias_correction=False)
    requests = calibration_requests(graph, choose_int8(graph, policy)[0])
    planner = Planner(graph, policy, backend.observe(model, requests, samples, lambda done: None))
    scorer = Scorer(demo.validate, Items(demo.validation_items()[:128]), Limits(criteria={"": Criterion(max_drop=0.1)}))
    candidate = Candidate().with_precision(dict.fromkeys(planner.int8_ops[:3], Precision.FLOAT))
    header = TraceHeader(versions={}, model=graph.fingerprint, settings={})
    here, there = Trace(None, header), Trace(None, header)
    local = SerialExecutor(Materials(backend, model, planner, {}, here), scorer)
    full = [local.score_float(), local.run(Candidate(), "int8")]
    rule = make_rejection(full, Criterion(max_drop=0.5), 128, {"items_alone_equal": True}, 0)
    assert isinstance(rule, Rejection)
    local.run(candidate, "search", rule)
    for trial in full:
        there.add(trial)
    materials = Materials(backend, model, planner, {}, there)
    with closing(ProcessExecutor(materials, scorer, SerialExecutor(materials, scorer), None)) as made:
        ranking = made.sensitivity(planner(Candidate()), samples, lambda done: None)
        made.run(candidate, "search", rule)
    assert there.notes["shared_out"]["plans"] == [there.trials[2].plan_key]
    assert without_seconds(there.trials) == without_seconds(here.trials)
    assert ranking == local.sensitivity(planner(Candidate()), samples, lambda done: None)


def test_what_workers_scored_is_confirmed_by_a_serial_run_too(tmp_path: Path) -> None:
    case = make_case(tmp_path, lie=1e-3, honest=1)
    with closing(processes(case)) as made:
        rule = case.rule([made.score_float(), made.run(Candidate(), "int8")])
        trial = made.run(candidates()[-1], "search", rule)
    resumed = make_case(tmp_path)
    confirmed = serial(resumed).confirm(trial)
    assert trial.metric is not None and confirmed.metric is not None
    assert confirmed.metric == pytest.approx(trial.metric - 1e-3)
    assert resumed.trace.trials[-1] == confirmed
    calls = len(resumed.function.calls())
    again = make_case(tmp_path)
    assert serial(again).confirm(trial) == confirmed
    assert len(again.function.calls()) == calls


def ignores_interrupts(pid: int) -> bool:
    """Whether Ctrl-C passes by a process from its first moment, so that it prints no traceback of its own."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    bit = 1 << (signal.SIGINT - 1)
    return all(int(lines[name], 16) & bit for name in ("SigBlk", "SigIgn"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_worker_outlives_its_parent(tmp_path: Path, number: signal.Signals, code: int) -> None:
    command = [sys.executable, "-m", "tests.executors.interrupted_run", str(tmp_path)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, **pipes) as run:  # type: ignore[call-overload]
        log = Closeness(tmp_path)
        while not (workers := {pid for pid, _ in log.calls()} - {run.pid}):
            assert run.poll() is None
            time.sleep(0.02)
        below = psutil.Process(run.pid).children(recursive=True)
        assert workers <= {process.pid for process in below}
        assert all(ignores_interrupts(pid) for pid in workers)
        # Ctrl-C reaches every process of the terminal; a kill only the one that is named
        os.killpg(run.pid, number) if number == signal.SIGINT else run.send_signal(number)
        out, err = run.communicate(timeout=60)
    _, alive = psutil.wait_procs(below, timeout=20)
    assert alive == []
    assert list(tmp_path.glob("maxdrop-workers-*")) == []
    assert run.returncode == code
    if number == signal.SIGINT:
        assert "interrupted by the user" in out, err
        assert "Traceback" not in err


def test_what_cannot_be_pickled_is_named_before_anything_is_scored() -> None:
    lock, calls = threading.Lock(), []

    def locked(compiled: Any, items: Any) -> float:
        calls.append(1)
        with lock:
            return 1.0

    images = demo.calibration_items()[:2]
    chosen: dict[str, Any] = {"placement": "table", "executor": "processes"}
    with pytest.raises(ValidationError, match=r"the validation function is not: .*executor='serial'"):
        md.control_accuracy(demo.load_model(), md.Dataset(images), md.Dataset(images), locked, **chosen)
    assert calls == []


def test_an_exception_that_cannot_be_sent_is_told(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    with closing(processes(case)) as made:
        job = made.folder / JOB
        folder = tmp_path / "job"
        (folder / RUNNING).mkdir(parents=True)
        job.rename(folder / JOB)
    case.backend.save(case.model, folder / FLOAT)
    case.function.tell("raise-unsendable")
    failure = work(folder, 0, ScoreItems(FLOAT, (0, 1))).failure
    assert failure is not None and failure.error is None
    assert failure.text.endswith("UnsendableError: disk full")
    assert "in _misbehave" in failure.traceback


def test_no_more_workers_than_there_is_room_for() -> None:
    assert count_workers(cores=8, memory=0, peak=100) == 1
    assert count_workers(cores=8, memory=500, peak=100) == 5
    assert count_workers(cores=8, memory=10**6, peak=100) == 8
    assert count_workers(cores=8, memory=10**6, peak=0) == 8
    assert count_workers(cores=1, memory=10**6, peak=1) == 1


def test_memory_is_measured() -> None:
    before = peak_memory()
    block = np.ones(50_000_000, np.uint8)
    assert peak_memory() >= before
    assert peak_memory() > block.nbytes
    assert 0 < available_memory() <= psutil.virtual_memory().total


def test_a_container_may_have_less_memory_than_the_machine(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("900\n")
    assert available_memory(tmp_path) > 1_000_000
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 30\n")
    assert available_memory(tmp_path) == 130
    (tmp_path / "memory.current").write_text("2000\n")
    assert available_memory(tmp_path) == 0


@pytest.mark.parametrize(
    ("chosen", "match"),
    [
        ({"executor": "threads"}, r"\('serial', 'processes'\)"),
        ({"executor": "processes", "workers": 0}, "workers"),
        ({"executor": "processes", "workers": 1.5}, "workers"),
        ({"executor": "processes", "workers": True}, "workers"),
        ({"workers": 2}, "serial"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, chosen: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        search(tmp_path, **chosen)
