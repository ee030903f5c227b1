"""What every executor must do. Subclass `ExecutorSuite` in a test module and give `make_executor`.

The reference is `SerialExecutor`: another executor may be faster but must leave the same trials. The model is one of
the toy backend; the user's function is real, and is told by files to raise or to kill its process.
"""

# ruff: noqa: D102 - the names of the tests say what they hold

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maxdrop.data.plan import Candidate, QuantizationPlan
from maxdrop.data.spec import Policy, Precision
from maxdrop.data.trace import Trace, TraceHeader, Trial
from maxdrop.errors import WorkerError
from maxdrop.executors.materials import Materials
from maxdrop.executors.serial import SerialExecutor
from maxdrop.ptq.build import Planner
from maxdrop.ptq.calibration import calibration_requests
from maxdrop.search.criterion import Criterion
from maxdrop.search.limits import Limits
from maxdrop.search.rejection import Rejection, make_rejection
from maxdrop.search.scoring import Scorer
from maxdrop.search.session import Executor
from maxdrop.testing.toy_backend import ToyBackend, ToyCompiled
from maxdrop.testing.toy_model import ToyModel, ToyOp

WIDTH = 8
OPS = ("m0", "m1", "m2", "m3", "m4")
ITEMS = 130


class ValidationFunctionError(Exception):
    """What the user's function raises when a file tells it to."""


class UnsendableError(Exception):
    """The same, but it cannot be pickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


@dataclass(frozen=True)
class Closeness:
    """A validation function: 1 minus the relative error of each item, and their mean.

    Attributes:
        folder: where it logs its calls and looks for a file that is called "raise", "interrupt" or "die-...".
        owner: the process that never dies.
        slow: seconds that an item takes in any process but the owner.
        lie: added to the values there...
        honest: ... but not in so many first calls.
    """

    folder: Path
    owner: int = field(default_factory=os.getpid)
    slow: float = 0.0
    lie: float = 0.0
    honest: int = 0

    def __call__(self, compiled: ToyCompiled, items: Any) -> tuple[float, list[float]]:
        """Score, or do what the files tell."""
        found = list(items)
        away = os.getpid() != self.owner
        with (self.folder / "calls").open("a") as log:
            log.write(f"{os.getpid()} {len(found)}\n")
        self._misbehave()
        values = []
        for sample, exact in found:
            time.sleep(self.slow if away else 0.0)
            error = np.square(compiled(sample)[0] - exact).sum() / np.square(exact).sum()
            values.append(1.0 - float(error))
        if away and self.lie and sum(pid != self.owner for pid, _ in self.calls()) > self.honest:
            values = [value + self.lie for value in values]
        return float(np.mean(values)), values

    def calls(self) -> list[tuple[int, int]]:
        """(process, number of items) of every call so far."""
        log = self.folder / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        return [(int(line.split()[0]), int(line.split()[1])) for line in lines]

    def tell(self, name: str, told: bool = True) -> None:
        """Leave or take away the file that tells it to do something."""
        (self.folder / name).touch() if told else (self.folder / name).unlink()

    def _misbehave(self) -> None:
        if (self.folder / "raise").exists():
            message = "disk full"
            raise ValidationFunctionError(message)
        if (self.folder / "raise-unsendable").exists():
            raise UnsendableError("disk", "full")
        if (self.folder / "interrupt").exists():
            raise KeyboardInterrupt
        for order in sorted(self.folder.glob("die-*")) if os.getpid() != self.owner else []:
            order.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Items:
    """Samples with the outputs of the float model."""

    pairs: Sequence[Any]

    @property
    def positions(self) -> int:
        """All can be taken by position."""
        return len(self.pairs)

    def items(self, positions: Sequence[int] | None = None) -> list[Any]:
        """All, or those at `positions`."""
        return list(self.pairs) if positions is None else [self.pairs[i] for i in positions]


@dataclass(frozen=True)
class ExecutorCase:
    """What an executor is made of.

    Attributes:
        backend: of the model.
        model: float, a chain of the matrix products in `OPS`.
        planner: makes plans.
        scorer: scores with `function`; picklable.
        trace: to append trials to.
        function: the validation function.
        samples: calibration samples.
    """

    backend: ToyBackend
    model: ToyModel
    planner: Planner
    scorer: Scorer
    trace: Trace
    function: Closeness
    samples: list[Any]

    @property
    def materials(self) -> Materials[ToyModel]:
        """Of candidates."""
        return Materials(self.backend, self.model, self.planner, {}, self.trace)

    def rule(self, trials: Sequence[Trial]) -> Rejection:
        """When a candidate is rejected early: a limit that some keep and others clearly break."""
        metrics = [t.metric or 0.0 for t in trials]
        limit = Criterion(max_drop=0.3 * (metrics[0] - metrics[1]))
        rule = make_rejection(trials, limit, ITEMS, {"items_alone_equal": True}, 0)
        assert isinstance(rule, Rejection), rule
        return rule


def make_case(folder: Path, **function: Any) -> ExecutorCase:
    """A case whose trace and calls are logged in `folder`; the same folder continues the trace."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    weights = {f"w{i}": rng.normal(0.0, WIDTH**-0.5, (WIDTH, WIDTH)).astype(np.float32) for i in range(len(OPS))}
    ops = [ToyOp("x", "Parameter", attrs={"width": WIDTH}), *(ToyOp(name, "Constant") for name in weights)]
    ops += [ToyOp(op, "MatMul", (OPS[i - 1] if i else "x", f"w{i}")) for i, op in enumerate(OPS)]
    model = ToyModel([*ops, ToyOp("y", "Result", (OPS[-1],))], weights)
    backend = ToyBackend()
    graph = backend.graph(model)
    samples = [rng.normal(size=(16, WIDTH)).astype(np.float32) for _ in range(4)]
    statistics = backend.observe(model, calibration_requests(graph, list(OPS)), samples, lambda done: None)
    planner = Planner(graph, Policy(), statistics)
    scored = [rng.normal(size=(4, WIDTH)).astype(np.float32) * (1 + i % 3) for i in range(ITEMS)]
    validate = Closeness(folder, **function)
    items = Items([(sample, model.run(sample)[0]) for sample in scored])
    scorer = Scorer(validate, items, Limits(criteria={"": Criterion(max_drop=0.1)}))
    trace = Trace(folder / "trace.jsonl", TraceHeader(versions={}, model=graph.fingerprint, settings={}))
    return ExecutorCase(backend, model, planner, scorer, trace, validate, samples)


def candidates() -> list[Candidate]:
    """From few reverted ops to many."""
    return [Candidate().with_precision(dict.fromkeys(OPS[:n], Precision.FLOAT)) for n in (1, 2, 3, 4)]


def rankings(case: ExecutorCase) -> list[tuple[QuantizationPlan, list[Any]]]:
    """Plans and samples to rank ops with: all, and fewer of either."""
    everything, few = case.planner(Candidate()), case.planner(candidates()[2])
    return [(everything, case.samples), (few, case.samples[:2]), (everything, case.samples[2:])]


def run_all(executor: Executor, case: ExecutorCase) -> list[Trial]:
    """Everything that a search asks of an executor."""
    trials = [executor.score_float(), executor.run(Candidate(), "int8")]
    rule = case.rule(trials)
    return trials + [executor.run(candidate, "search", rule) for candidate in candidates()]


def without_seconds(trials: Sequence[Trial]) -> list[Trial]:
    """The same trials, as comparable between runs."""
    return [trial.model_copy(update={"seconds": 0.0}) for trial in trials]


class ExecutorSuite:
    """Conformance tests; pytest collects those of a subclass whose name begins with "Test"."""

    has_workers = True
    """Whether the user's function runs in processes that may die."""

    def make_executor(self, case: ExecutorCase) -> Executor:
        """The executor to be tested."""
        raise NotImplementedError

    @contextmanager
    def executor(self, case: ExecutorCase) -> Iterator[Executor]:
        """It, closed in the end."""
        with closing(self.make_executor(case)) as made:
            yield made

    def reference(self, folder: Path) -> tuple[list[Trial], list[dict[str, float]]]:
        """Trials and sensitivities as the serial executor finds them."""
        case = make_case(folder)
        made = SerialExecutor(case.materials, case.scorer)
        trials = run_all(made, case)
        return without_seconds(trials), [made.sensitivity(*asked, lambda done: None) for asked in rankings(case)]

    def test_trials_and_ranking_are_those_of_the_serial_executor(self, tmp_path: Path) -> None:
        trials, sensitivity = self.reference(tmp_path / "reference")
        assert {trial.state for trial in trials} == {"complete", "rejected"}
        case = make_case(tmp_path / "tested")
        ticks: list[list[int]] = [[], [], []]
        before = case.model.to_json()
        with self.executor(case) as made:
            asked = zip(rankings(case), ticks, strict=True)
            assert [made.sensitivity(*what, done.append) for what, done in asked] == sensitivity
            found = run_all(made, case)
        assert without_seconds(found) == trials
        assert without_seconds(case.trace.trials) == trials
        assert [done[-1] for done in ticks] == [20, 4, 10]
        assert all(done == sorted(done) for done in ticks)
        assert case.model.to_json() == before
        assert any(process != os.getpid() for process, _ in case.function.calls()) == self.has_workers
        assert not [pid for pid, _ in case.function.calls() if pid != os.getpid() and _is_alive(pid)]

    def test_a_confirmed_metric_is_that_of_one_call_and_nothing_known_is_scored_again(self, tmp_path: Path) -> None:
        first = make_case(tmp_path)
        with self.executor(first) as made:
            trials = run_all(made, first)
            best = next(trial for trial in trials[2:] if trial.state == "complete")
            confirmed = made.confirm(best)
        plan = first.planner(best.candidate or Candidate())
        compiled = first.backend.compile(first.backend.apply(first.model, plan, first.planner.arrays), {})
        assert confirmed.metric == first.scorer.whole(compiled).metric
        calls = len(first.function.calls())
        second = make_case(tmp_path)
        with self.executor(second) as made:
            assert run_all(made, second) == trials
            assert all(made.knows(candidate) for candidate in candidates())
            assert made.confirm(best) == confirmed
        assert len(second.function.calls()) == calls

    def test_an_exception_arrives_with_its_traceback_and_the_candidate_can_run_again(self, tmp_path: Path) -> None:
        trials, _ = self.reference(tmp_path / "reference")
        case = make_case(tmp_path / "tested")
        with self.executor(case) as made:
            full = [made.score_float(), made.run(Candidate(), "int8")]
            rule = case.rule(full)
            case.function.tell("raise")
            text = ""
            try:
                made.run(candidates()[0], "search", rule)
            except ValidationFunctionError as error:
                text = "".join(traceback.format_exception(error))
            assert "disk full" in text
            assert "in _misbehave" in text
            failed = case.trace.trials[-1]
            assert (failed.state, failed.candidate, failed.validations) == ("failed", candidates()[0], 0.0)
            assert failed.error is not None and failed.error.endswith("ValidationFunctionError: disk full")
            assert not made.knows(candidates()[0])
            case.function.tell("raise", False)
            again = made.run(candidates()[0], "search", rule)
        assert without_seconds([again])[0] == trials[2].model_copy(update={"number": 3})

    def test_an_interruption_goes_through_and_leaves_no_trial(self, tmp_path: Path) -> None:
        case = make_case(tmp_path)
        with self.executor(case) as made:
            rule = case.rule([made.score_float(), made.run(Candidate(), "int8")])
            case.function.tell("interrupt")
            interrupted = False
            try:
                made.run(candidates()[0], "search", rule)
            except KeyboardInterrupt:
                interrupted = True
        assert interrupted
        assert len(case.trace.trials) == 2
        assert not [pid for pid, _ in case.function.calls() if pid != os.getpid() and _is_alive(pid)]

    def test_a_worker_that_is_killed_changes_nothing(self, tmp_path: Path) -> None:
        if not self.has_workers:
            return
        trials, _ = self.reference(tmp_path / "reference")
        case = make_case(tmp_path / "tested")
        with self.executor(case) as made:
            full = [made.score_float(), made.run(Candidate(), "int8")]
            rule = case.rule(full)
            case.function.tell("die-1")
            found = full + [made.run(candidate, "search", rule) for candidate in candidates()]
        assert not list(case.function.folder.glob("die-*"))
        assert without_seconds(found) == trials

    def test_workers_that_die_again_and_again_are_an_error(self, tmp_path: Path) -> None:
        if not self.has_workers:
            return
        case = make_case(tmp_path)
        with self.executor(case) as made:
            rule = case.rule([made.score_float(), made.run(Candidate(), "int8")])
            for number in range(50):
                case.function.tell(f"die-{number:02}")
            text = ""
            try:
                made.run(candidates()[0], "search", rule)
            except WorkerError as error:
                text = str(error)
        assert "died during this task" in text
        assert case.trace.trials[-1].state == "failed"
        assert len(list(case.function.folder.glob("die-*"))) > 30


def _is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
