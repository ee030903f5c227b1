"""Whole searches on the toy backend: budgets, seeds, several metrics, confidence, holdout, early rejection."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maxdrop.control import AccuracyControl, ControlOptions
from maxdrop.data.plan import Candidate
from maxdrop.data.spec import Policy
from maxdrop.data.trace import read_trace
from maxdrop.dataset import Dataset
from maxdrop.errors import MetricError, ValidationError
from maxdrop.options import AdvancedAccuracyRestorerParameters
from maxdrop.preparation import Prepared, calibrate
from maxdrop.progress import ProgressReporter
from maxdrop.ptq.build import Planner
from maxdrop.resolve import QuantizeOptions
from maxdrop.result import AccuracyControlResult
from maxdrop.search.criterion import Criterion
from maxdrop.search.holdout import split_holdout
from maxdrop.search.limits import make_limits
from maxdrop.testing.toy_backend import ToyBackend, ToyCompiled
from tests.toys import toy_model, toy_samples

SAMPLES = toy_samples(240, seed=2)
EXACT = {id(item): toy_model().run(item)[0] for item in SAMPLES}


def errors(compiled: ToyCompiled, items: Any) -> list[float]:
    """Relative error of each item."""
    found = []
    for item in items:
        exact = EXACT[id(item)]
        found.append(float(np.square(compiled(item)[0] - exact).sum() / np.square(exact).sum()))
    return found


def score(compiled: ToyCompiled, items: Any) -> tuple[float, list[float]]:
    """Closeness to the float model, and that of each item."""
    values = [1.0 - error for error in errors(compiled, items)]
    return float(np.mean(values)), values


def int8_errors() -> list[float]:
    """Errors of the fully quantized model, for limits that it breaks whatever the quality of quantization."""
    backend, model = ToyBackend(), toy_model()
    prepared = Prepared(backend, model, backend.graph(model), Policy())
    calibration = calibrate(prepared, Dataset(toy_samples(8)), 300, ProgressReporter(False))
    planner = Planner(prepared.graph, prepared.policy, calibration.statistics)
    return errors(backend.compile(backend.apply(model, planner(Candidate()), planner.arrays), {}), SAMPLES[:120])


INT8 = int8_errors()
TIGHT = 0.5 * float(np.mean(INT8))


def control(limit: Any = TIGHT, max_num_iterations: int | None = None, **chosen: Any) -> AccuracyControl:
    backend, model = ToyBackend(), toy_model()
    restorer = AdvancedAccuracyRestorerParameters()
    if max_num_iterations is not None:
        restorer.max_num_iterations = max_num_iterations
    limits = limit if not isinstance(limit, float) else Criterion(max_drop=limit)
    settings = {"deadline": None, "output_dir": None, "allow_slower": True, **chosen}
    options = ControlOptions(limits, restorer, {}, **settings)
    prepared = Prepared(backend, model, backend.graph(model), Policy())
    return AccuracyControl(prepared, QuantizeOptions(), options, ProgressReporter(False))


def run(
    limit: Any = TIGHT, validate: Callable[[Any, Any], Any] = score, items: int = 120, **chosen: Any
) -> AccuracyControlResult:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about few items, where a test has few
        return control(limit, **chosen).run(Dataset(toy_samples(8)), Dataset(SAMPLES[:items]), validate)


def searched(result: AccuracyControlResult) -> int:
    return sum(t.role in ("search", "prune") for t in result.trace.trials)


def test_the_search_reverts_some_ops_and_meets_the_limit() -> None:
    result = run()
    assert result.reached
    assert 0 < len(result.reverted) < 5
    assert result.drop <= TIGHT < (result.int8_drop or 0.0)


def test_equal_candidates_never_run_twice() -> None:
    keys = [t.plan_key for t in run().trace.trials]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("most", [2, 3, 4])
def test_no_more_validations_than_allowed(most: int) -> None:
    result = run(max_validations=most)
    assert sum(t.validations for t in result.trace.trials) <= most
    assert result.reached or f"limit of {most} validations" in result.stop_reason


@pytest.mark.parametrize("most", [0, 1, 2])
def test_no_more_candidates_than_allowed(most: int) -> None:
    result = run(max_num_iterations=most)
    assert searched(result) <= most


def test_no_candidate_starts_that_would_end_after_the_deadline() -> None:
    def slow(compiled: Any, items: Any) -> float:
        time.sleep(0.25)
        return score(compiled, items)[0]

    result = run(validate=slow, items=16, deadline=time.monotonic() + 1.15)
    assert result.stop_reason == "the time budget was spent"
    assert searched(result) == 0
    assert not run(validate=slow, items=16, deadline=time.monotonic()).reached


def test_the_budget_counts_what_an_earlier_run_used(tmp_path: Path) -> None:
    once = run(max_validations=4, output_dir=tmp_path)
    again = run(max_validations=4, output_dir=tmp_path)
    assert [t.plan_key for t in again.trace.trials] == [t.plan_key for t in once.trace.trials]
    assert again.plan == once.plan


@pytest.mark.parametrize("after", range(1, 9))
def test_ctrl_c_returns_the_best_so_far(after: int) -> None:
    calls = 0

    def interrupted(compiled: Any, items: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise KeyboardInterrupt
        return score(compiled, items)

    result = run(validate=interrupted, items=16)
    assert calls <= after or result.stop_reason == "interrupted by the user"
    assert result.drop <= TIGHT


def test_the_same_seed_gives_the_same_search_and_is_in_the_trace(tmp_path: Path) -> None:
    first, second = run(items=240, seed=3, output_dir=tmp_path), run(items=240, seed=3)
    assert first.plan == second.plan
    assert [(t.plan_key, t.drop, t.state) for t in first.trace.trials] == [
        (t.plan_key, t.drop, t.state) for t in second.trace.trials
    ]
    assert read_trace(tmp_path / "trace.jsonl")[0]["settings"]["seed"] == 3


def test_failing_candidates_are_rejected_early_and_passing_ones_are_scored_on_everything() -> None:
    result = run(0.12 * TIGHT, items=240)
    assert result.trace.notes["early_rejection"] == {"used": True, "reason": ""}
    rejected = [t for t in result.trace.trials if t.state == "rejected"]
    assert rejected
    for trial in rejected:
        assert trial.evidence is not None
        assert trial.evidence.items < trial.evidence.of == 240
        assert trial.metric is None
        assert trial.drop is not None and trial.drop > 0.12 * TIGHT
    whole = run(0.12 * TIGHT, validate=lambda c, i: score(c, i)[0], items=240)
    assert whole.trace.notes["early_rejection"]["reason"] == "the validation function returns no numbers per item"
    assert whole.plan == result.plan
    assert whole.metric == result.metric
    used = [sum(t.validations for t in r.trace.trials) for r in (result, whole)]
    assert used[0] < used[1]


def test_items_that_depend_on_each_other_are_not_scored_in_parts() -> None:
    def ranks(compiled: Any, items: Any) -> tuple[float, list[float]]:
        values = score(compiled, items)[1]
        values = [v * len(values) for v in values]
        return float(np.mean(values)), values

    result = run(0.01, validate=ranks, items=240)
    assert result.trace.notes["early_rejection"]["reason"] == "items do not get the same number alone as among others"


def test_items_that_cannot_be_taken_by_position_are_scored_whole() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        result = control().run(Dataset(toy_samples(8)), Dataset(lambda: iter(SAMPLES)), score)
    assert "by position" in result.trace.notes["early_rejection"]["reason"]
    assert result.reached


def both(compiled: Any, items: Any) -> dict[str, float]:
    found = errors(compiled, items)
    return {"worst": max(found), "mean": float(np.mean(found)), "other": 0.0}


def test_several_metrics_all_hold() -> None:
    worst = 0.96 * max(INT8)
    limits = make_limits({"worst": worst, "mean": TIGHT}, "absolute", False, None, None, 0)
    result = run(limits, validate=both)
    assert result.reached
    assert result.drops.keys() == {"worst", "mean"}
    assert result.drops["worst"] <= worst
    assert result.drops["mean"] <= TIGHT
    assert result.drop == max(result.drops["worst"] / worst, result.drops["mean"] / TIGHT) <= 1.0
    assert result.metrics["other"] == 0.0
    assert "worst" in result.summary()


def test_a_floor_can_be_the_tighter_limit() -> None:
    loose = run(1.0)
    assert loose.reverted == []
    result = run(make_limits(1.0, "absolute", True, 1.0 - TIGHT, None, 0))
    assert result.reached
    assert result.metric >= 1.0 - TIGHT > loose.metric


def test_relative_to_zero_is_refused_before_any_candidate_is_scored() -> None:
    calls = 0

    def zero(compiled: Any, items: Any) -> float:
        nonlocal calls
        calls += 1
        return 0.0

    with pytest.raises(ValidationError, match=r"DropType\.ABSOLUTE"):
        run(Criterion(max_drop=0.1, drop_type="relative"), validate=zero)
    assert calls == 1


def test_confidence_limits_the_upper_end() -> None:
    result = run(make_limits(TIGHT, "absolute", True, None, 0.95, 0), items=240)
    assert result.drop_upper is not None
    assert result.drop < result.drop_upper
    assert not result.reached or result.drop_upper <= TIGHT
    with pytest.raises(MetricError, match="confidence"):
        run(make_limits(TIGHT, "absolute", True, None, 0.95, 0), validate=lambda c, i: score(c, i)[0])


def test_held_out_items_are_seen_once_at_the_end() -> None:
    seen: list[set[int]] = []

    def noting(compiled: Any, items: Any) -> Any:
        found = list(items)
        seen.append({id(item) for item in found})
        return score(compiled, found)

    result = run(validate=noting, items=100, holdout=0.3)
    assert result.holdout_drop is not None
    assert [len(s) for s in seen[-2:]] == [30, 30]
    assert all(not (s & seen[-1]) for s in seen[:-2])
    assert result.trace.notes["holdout"]["drop"] == result.holdout_drop


def test_the_holdout_is_not_scored_again(tmp_path: Path) -> None:
    first = run(holdout=0.25, output_dir=tmp_path)

    def never(compiled: Any, items: Any) -> Any:
        raise AssertionError

    assert run(validate=never, holdout=0.25, output_dir=tmp_path).holdout_drop == first.holdout_drop


def test_too_few_items_are_said_and_warned_about() -> None:
    def coarse(compiled: Any, items: Any) -> tuple[float, list[float]]:
        found = [float(hash(round(e, 7)) % 10 > 2) if e > 0.0 else 0.7 for e in errors(compiled, items)]
        return float(np.mean(found)), found

    with pytest.warns(UserWarning, match="validation items cannot tell a drop"):
        result = control(0.02).run(Dataset(toy_samples(8)), Dataset(SAMPLES[:60]), coarse)
    assert "times as many items" in result.notes[0]
    assert result.notes[0] in result.summary()


@pytest.mark.parametrize(
    ("chosen", "match"),
    [
        ({"max_validations": 1}, "max_validations"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"strategy": "magic"}, r"\['bracket', 'greedy'\]"),
        ({"holdout": 1.0}, "holdout"),
        ({"holdout": -0.1}, "holdout"),
        ({"holdout": 0.001}, "both sides"),
    ],
)
def test_wrong_options_are_refused(chosen: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        run(**chosen)


def test_greedy_reverts_one_op_after_another() -> None:
    result = run(strategy="greedy")
    sizes = [len(t.candidate.precisions) for t in result.trace.trials if t.role == "search" and t.candidate]
    assert sizes == list(range(1, len(sizes) + 1))
    assert len(run().reverted) <= len(result.reverted)


def test_a_relative_drop_without_meaning_on_the_held_out_items_does_not_lose_the_result() -> None:
    positions = {id(item): i for i, item in enumerate(SAMPLES)}
    held = set(split_holdout(120, 0.2, 0)[1])

    def zero_on_held_out(compiled: Any, items: Any) -> float:
        chosen = list(items)
        return 0.0 if positions[id(chosen[0])] in held else score(compiled, chosen)[0]

    limit = Criterion(max_drop=0.9, drop_type="relative")
    with pytest.warns(UserWarning, match="held-out items is not known: a relative drop needs"):
        result = control(limit, holdout=0.2).run(Dataset(toy_samples(8)), Dataset(SAMPLES[:120]), zero_on_held_out)
    assert result.reached
    assert result.holdout_drop is None


def test_what_is_no_function_is_refused_before_any_work() -> None:
    with pytest.raises(ValidationError, match="`validation_fn` must be a function"):
        control().run(Dataset(toy_samples(8)), Dataset(SAMPLES[:20]), 3)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValidationError, match="`output_dir` must be a folder"):
        control(output_dir=tmp_path / "file" / "deeper")


def test_several_metrics_without_limits_of_their_own_are_explained() -> None:
    with pytest.raises(MetricError, match=r"returned metrics by name \(a, b\)"):
        run(validate=lambda compiled, items: {"a": 1.0, "b": 2.0})
