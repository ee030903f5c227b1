"""The studies behind the search: what they compute on made-up numbers, and whole on toy scale."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("psutil")
pytest.importorskip("typer")

from benchmarks.studies import budget_time, distances, guarantee, held_out, inferences, minimality, ranking
from benchmarks.studies.hard import control_arguments, names, quantize_options
from benchmarks.studies.lab import Lab
from benchmarks.studies.one_at_a_time import Tables, evenly, order, reliability
from benchmarks.studies.runs import Run, Runs, grid_of_runs
from benchmarks.task import load_task
from maxdrop.data.plan import Candidate, save_plan
from maxdrop.data.spec import Precision
from maxdrop.data.trace import Note, Trace, TraceHeader
from maxdrop.dataset import Dataset
from maxdrop.preparation import calibrate, open_and_resolve
from maxdrop.progress import ProgressReporter
from maxdrop.ptq.build import Planner
from maxdrop.search.loop import COMPLETE

TOY = "benchmarks.toy:task"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Keeps all files of these tests out of the repository, in the children too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAXDROP_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def test_distances_see_what_they_should_and_nothing_else() -> None:
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 1, 10))
    for distance in (*distances.distances_of("demo").values(), *distances.distances_of("minilm").values()):
        assert distance([a, b], [a, b]) == pytest.approx(0.0, abs=1e-12)
        assert distance([a, b], [b, 2 * a]) > 0.0
    assert distances.nmse([a], [1.1 * a]) == pytest.approx(0.01)
    assert distances.one_minus_cosine([a], [1.1 * a]) == pytest.approx(0.0, abs=1e-12)
    assert distances.centred_nmse([a], [a + 3.0]) == pytest.approx(0.0, abs=1e-12)
    assert distances.pair_product([a, b], [2 * a, b / 2]) == pytest.approx(0.0, abs=1e-12)
    p, q = np.exp(a) / np.exp(a).sum(), np.exp(b) / np.exp(b).sum()
    exact = float(np.sum(p * np.log(p / q)))
    assert distances.kl_divergence([a], [b]) == pytest.approx(exact)
    assert distances.kl_divergence([p], [q]) == pytest.approx(exact)


def tables(noise: float) -> Tables:
    random = np.random.default_rng(0)
    table = np.arange(12.0) + noise * random.standard_normal((64, 12))
    return Tables(tuple("abcdefghijkl"), {"d": table}, {"d": -table}, {"d": table.sum(axis=1)})


@pytest.mark.parametrize("kind", ["one in", "one out"])
def test_reliability_is_one_without_noise_and_falls_with_it(kind: str) -> None:
    assert reliability(tables(0.0), kind, "d", 2) == pytest.approx(1.0)
    found = [reliability(tables(8.0), kind, "d", size) for size in (2, 8, 32)]
    assert 0.0 < found[0] < found[1] < found[2] < 0.95  # type: ignore[operator]
    assert abs(reliability(tables(1e4), kind, "d", 8) or 0.0) < 0.3
    assert reliability(tables(0.0), kind, "d", 33) is None


def test_one_out_ranks_by_what_is_saved() -> None:
    made = tables(0.0)
    assert order(made.ops, made.scores("one in", "d", evenly(64, 4)))[0] == "l"
    assert order(made.ops, made.scores("one out", "d", evenly(64, 4)))[0] == "l"
    assert evenly(300, 4) == [0, 99, 199, 299]
    assert order("abc", [1.0, 2.0, 2.0]) == ["b", "c", "a"]


def test_the_lab_agrees_with_the_models_it_stands_for() -> None:
    lab = Lab("demo", "minmax", calibration=8)
    item = lab.split.validation[0]
    image = lab.task.transform(item)
    exact = lab.compiled_float()(image)[0]
    np.testing.assert_allclose(lab.outputs(item, ())[0], exact, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(lab.compiled(lab.ops)(image)[0], exact, rtol=1e-4, atol=1e-4)
    assert np.abs(lab.outputs(item, lab.ops)[0] - exact).max() > 1e-2
    items = lab.split.validation[:20]
    assert lab.simulated_metric(items, ()) == lab.task.validate(lab.compiled_float(), items)[0]


def test_the_ranking_study_on_toy_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "COUNTS", (2,))
    sizes = ranking.Sizes(one_in=6, one_out=4, metric=4, left=2, drop=4)
    data = ranking.study("demo", "minmax", 0, sizes, 8, tmp_path / "raw.npz")
    raw = np.load(tmp_path / "raw.npz")
    assert raw["one_in/NMSE"].shape == (6, len(data["ops"]))
    data = json.loads(json.dumps(data))
    by_name = {r["name"]: r for r in data["rankings"]}
    best, random = by_name["one in, NMSE, 4 samples"], by_name["random"]
    assert all(0.0 <= share < 1.5 for share in best["left"])
    assert best["left"][0] < random["left"][0]
    assert len(best["left"]) == len(best["drops"]) == 1
    assert data["reliability"]["one in"]["NMSE"][1:] == [None] * 3
    assert "as the search" in ranking.show(data)


def test_setups_are_different_wishes_and_the_default_is_none() -> None:
    assert control_arguments("default") == {}
    made = [quantize_options(name).advanced for name in names()]
    assert all(a != b for i, a in enumerate(made) for b in made[:i])
    with pytest.raises(KeyError, match="the setup must be one of"):
        control_arguments("soft")


def record(**changes: Any) -> dict[str, Any]:
    """A run in which every promise held."""
    notes = {"metric": 0.9, "float_metric": 0.91, "reached": True, "searched": True, "int8_drop": 0.1, "kept_float": 2}
    notes |= {"validations": 4.0, "seconds": 9.0, "longest_trial": 2.0, "seconds_after_last_score": 1.0}
    notes |= {"given_away": 0.2, "scored_int8": True, "candidates": 2, "stop_reason": "done"} | changes.pop("notes", {})
    made = {"label": "x", "task": "t", "setup": "s", "max_drop": 0.01 + 1e-9, "time_budget": 10.0, "compiles": 7}
    made |= {"notes": notes, "float": {"metric": 0.91}, "result": {"metric": 0.9}, "drop": 0.01, "held_out_drop": 0.02}
    return made | changes


def test_broken_promises_are_found() -> None:
    assert guarantee.problems(record()) == []
    assert guarantee.problems(record(drop=0.02)) == ["drop 0.02 beyond the limit"]
    assert "measured again" in guarantee.problems(record(notes={"metric": 0.95}))[0]
    assert "scores differently" in guarantee.problems(record(notes={"reached": False}))[0]
    assert guarantee.problems(record(failed="exit code 1\nboom")) == ["failed: boom"]
    records = [record(), record(drop=0.02), record(failed="boom"), record(notes={"int8_drop": 0.0, "searched": False})]
    found = guarantee.summarize(records)
    assert (found["runs"], found["failed"], found["violations"], found["problems"]) == (4, 1, 1, 2)
    assert (found["int8_beyond"], found["searched"], found["held_out_violations"]) == (2, 2, 3)
    assert "--only x" in guarantee.show({"runs": records})


def test_held_out_losses_are_counted_where_both_have_a_result() -> None:
    ours = [
        record(label=label, held_out_drop=drop) for label, drop in zip("abcd", (0.0, 0.02, 0.03, 0.04), strict=True)
    ]
    peers = [record(label="a", held_out_drop=0.05), record(label="b", held_out_drop=0.05), record(label="c", drop=0.02)]
    peers += [{**record(label="d"), "failed": "stopped"}, record(label="not asked of us", held_out_drop=1.0)]
    line = next(line for line in held_out.show(ours, peers).splitlines() if line.startswith("| all"))
    _, runs, missing, beyond, peer_beyond, both, *_, violations, peer_violations, _, _ = line.strip("| ").split(" | ")
    assert (runs, missing, beyond, peer_beyond, both) == ("4", "1", "2", "3", "2")
    assert (violations, peer_violations) == ("0", "1")


def test_a_grid_of_runs_has_different_labels_and_takes_all_setups() -> None:
    made = list(grid_of_runs(["a", "b"], ["s", "t"], [0.0, 0.1], 9))
    assert len({run.label for run in made}) == 9
    assert {run.setup for run in made} == {"s", "t"}
    assert {run.seed for run in made} == {0, 1, 2}


def test_a_late_return_and_a_slower_model_for_more_time_are_found() -> None:
    good = [record(), record(time_budget=20.0, notes={"given_away": 0.1})]
    assert budget_time.check(good) == []
    assert "gave a slower model" in budget_time.check(list(reversed(good)))[0]
    late = record(notes={"seconds": 12.5})
    assert budget_time.check([late]) == ["10 s: returned 0.5 s later than one evaluation after the budget"]
    only_float = record(notes={"seconds": 12.5, "scored_int8": False})
    assert budget_time.check([only_float]) == []
    assert "+2.5" in budget_time.show({"runs": [late], "problems": []})


def finished_search(folder: Path, stop_reason: str, max_drop: float) -> None:
    """What a search on the demo leaves behind that kept two ops float."""
    task = load_task("demo")
    prepared = open_and_resolve(str(task.model()), quantize_options("minmax"))
    calibration = Dataset(task.split(0).calibration, task.transform)
    found = calibrate(prepared, calibration, 8, ProgressReporter(False), folder / "stats.npz")
    planner = Planner(prepared.graph, prepared.policy, found.statistics)
    floats = dict.fromkeys(planner.int8_ops[:2], Precision.FLOAT)
    save_plan(planner(Candidate().with_precision(floats)), planner.arrays, folder / "plan.json")
    settings = {"criterion": {"max_drop": max_drop}}
    trace = Trace(folder / "trace.jsonl", TraceHeader(versions={}, model="", settings=settings))
    trace.add(Note(name="result", content={"stop_reason": stop_reason}))


@pytest.mark.parametrize(
    ("stop_reason", "max_drop", "missed", "left_over"),
    [(COMPLETE, 1.0, 2, 0), (f"{COMPLETE}: enough", 1.0, 0, 2), (COMPLETE, -1.0, 0, 0)],
)
def test_needless_float_ops_are_found(
    tmp_path: Path, stop_reason: str, max_drop: float, missed: int, left_over: int
) -> None:
    finished_search(tmp_path, stop_reason, max_drop)
    data = minimality.examine(load_task("demo"), "minmax", 0, 20, tmp_path, max_blocks=5)
    assert len(data["kept"]) == len(data["attempts"]) == 2
    assert (len(data["missed"]), len(data["left_over"])) == (missed, left_over)
    assert stop_reason in minimality.show(data)


@pytest.mark.slow
def test_a_controlled_run_is_scored_again_in_fresh_processes() -> None:
    runs = Runs("test")
    run = Run(TOY, "coarse", 0.0, 0, limit=16)
    made = runs.carry_out(run)
    assert guarantee.problems(made) == []
    assert (runs.folder(run) / "model.xml").exists()
    assert made["drop"] <= 0.0
    assert made["compiles"] > 0


@pytest.mark.slow
def test_a_search_with_enough_validations_leaves_no_op_float_that_could_be_int8(tmp_path: Path) -> None:
    task = load_task("demo")
    minimality.search(task, "coarse", 0.02, 0, 100, tmp_path, max_validations=80, calibration=16)
    data = minimality.examine(task, "coarse", 0, 100, tmp_path, max_blocks=4)
    assert data["verdict"] == "complete"
    assert data["kept"]
    assert data["missed"] == []
    alone = [attempt for attempt in data["attempts"] if len(attempt["ops"]) == 1]
    assert {attempt["seen"] for attempt in alone} == {"complete"}


def test_quantizing_and_inferences_are_counted_on_the_same_samples() -> None:
    record = inferences.measure(TOY, 5, 2)
    assert record["samples"] == 5
    assert len(record["quantize"]) == len(record["inferences"]) == 2
    assert all(seconds > 0 for seconds in record["quantize"] + record["inferences"])
    made_up = {"task": "t", "samples": 10, "quantize": [3.0, 1.0, 2.0], "inferences": [1.0, 1.0, 1.0]}
    assert "| t | 10 | 100.0 | 2.00 | 2.00 [1.00, 3.00] |" in inferences.show([made_up])
