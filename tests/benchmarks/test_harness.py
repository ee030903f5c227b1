"""The benchmark harness on toy tools: good ones, and one for every way to fail."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as opset

pytest.importorskip("psutil")
pytest.importorskip("typer")

from benchmarks import toy
from benchmarks.brief import brief_markdown
from benchmarks.counting import counting
from benchmarks.harness import Comparison, Options
from benchmarks.latency import ratio_interval
from benchmarks.report import machine, markdown, title
from benchmarks.runtime_graph import coverage
from benchmarks.scale import Sweep, growth, run_sweep
from benchmarks.summary import overall, summarize
from benchmarks.task import digest, split_items
from benchmarks.worker import output_sqnr

TASK = "benchmarks.toy:task"
GOOD = "benchmarks.toy:identity"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Keeps all files of these tests out of the repository, in the children too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAXDROP_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def compare(results: Path, **changes: Any) -> dict[str, Any]:
    """A comparison without timing, with its summary."""
    options = Options(**{"task": TASK, "tool": GOOD, "peer": GOOD, "rounds": 1, "blocks": 0, **changes})
    data = Comparison(options, results, say=lambda _: None).run()
    stored = json.loads((results / f"{options.label()}.json").read_text())
    assert stored == json.loads(json.dumps(data))
    return {**data, "summary": summarize(data)}


@pytest.mark.slow
def test_two_good_sides_give_equal_counts_and_metrics(tmp_path: Path) -> None:
    data = compare(tmp_path, mode="control", rounds=2, blocks=3, runs=5)
    for number, row in enumerate(data["rounds"]):
        assert row["order"] == (["A", "B"] if number % 2 == 0 else ["B", "A"])
        for side in "AB":
            assert row[side]["status"] == "ok", row[side]
            assert row[side]["metric"] == row["float"]["metric"] == 1.0
            assert row[side]["validation_calls"] == 1
            assert row[side]["sample_evaluations"] == row[side]["validation_forwards"] == 16
            assert row[side]["own_forwards"] == 1
            assert row[side]["compiles"] == 1
            assert row[side]["peak_bytes"] > row[side]["memory_before_bytes"] > 0
            assert row[side]["coverage"]["int8_share"] == 0
        assert set(row["latency"]) == {"LATENCY", "THROUGHPUT"}
        assert set(row["latency"]["LATENCY"]) == {"float", "A", "B", "plain A", "plain B"}
    assert data["summary"]["failures"] == []
    assert data["summary"]["verdicts"]["B"] == {"rounds": 2, "distinct": 1, "validation": 0, "held_out": 0}
    means = {line["name"]: line["mean"] for line in overall([data, data])}
    assert means["compiles"] == 1.0
    assert means["latency, hint LATENCY"] > 0
    ratios = {line["name"]: line["ratio"] for line in data["summary"]["measures"]}
    assert ratios["own forwards"] == ratios["compiles"] == (1.0, 1.0, 1.0)
    assert ratios["metric, result"] is None
    text = markdown({**data, "machine": machine(), "versions": {"openvino": ov.__version__}})
    assert "| wall time of the call, s |" in text
    assert "| THROUGHPUT | A: benchmarks.toy:identity |" in text
    head, _, row = brief_markdown([data]).splitlines()
    assert head.count("|") == row.count("|")
    assert " 0.0000 / 0.0000 " in row
    assert title(data) in row


def test_a_crashing_peer_is_reported_and_the_run_goes_on(tmp_path: Path) -> None:
    data = compare(tmp_path, peer="benchmarks.toy:crash", rounds=2, swap=True)
    assert [row["order"] for row in data["rounds"]] == [["B", "A"], ["A", "B"]]
    for row, failure in zip(data["rounds"], data["summary"]["failures"], strict=True):
        assert row["A"]["status"] == "ok"
        assert row["B"]["status"] == "crash"
        assert row["B"]["message"] == "exit code 17\ntoy crash"
        assert (failure["side"], failure["status"]) == ("B", "crash")
    wall = data["summary"]["measures"][0]
    assert wall["A"] is not None
    assert wall["B"] is wall["ratio"] is None


def test_an_exception_and_a_wrong_model_are_reported(tmp_path: Path) -> None:
    data = compare(tmp_path, tool="benchmarks.toy:fail", peer="benchmarks.toy:wrong")
    (row,) = data["rounds"]
    assert row["A"]["status"] == "crash"
    assert row["A"]["message"].endswith("RuntimeError: toy failure")
    assert row["B"]["status"] == "wrong"
    assert row["B"]["message"] == "the outputs must have the shape [1,8], but got [1,1]"
    assert "| 1 | B | wrong |" in markdown({**data, "machine": machine(), "versions": {}})


def test_a_hanging_peer_is_stopped_and_not_tried_again(tmp_path: Path) -> None:
    data = compare(tmp_path, peer="benchmarks.toy:hang", rounds=2, limit_seconds=6.0)
    assert [row["B"]["status"] for row in data["rounds"]] == ["timeout", "skipped"]
    assert [row["A"]["status"] for row in data["rounds"]] == ["ok", "ok"]
    assert data["rounds"][0]["B"]["message"] == "stopped after 6 s"


def test_counting_leaves_openvino_as_it_was() -> None:
    before = (ov.Core.compile_model, ov.InferRequest.infer, ov.AsyncInferQueue.start_async)
    task = toy.task()
    items = task.split(0).validation
    with counting() as counts:
        compiled = ov.Core().compile_model(task.model(), "CPU")
        compiled(items[0][0])
        queue = ov.AsyncInferQueue(compiled, 1)
        queue.start_async(items[0][0])
        queue.wait_all()
        assert counts.wrap(task.validate, per_item=True)(compiled, items) == (1.0, [1.0] * len(items))
        assert counts.wrap(task.validate, per_item=False)(compiled, items[:3]) == 1.0
    assert counts.as_dict() == {
        "compiles": 1,
        "own_forwards": 2,
        "validation_forwards": len(items) + 3,
        "validation_calls": 2,
        "sample_evaluations": len(items) + 3,
    }
    assert before == (ov.Core.compile_model, ov.InferRequest.infer, ov.AsyncInferQueue.start_async)


def test_coverage_counts_the_work_of_the_products() -> None:
    task = toy.task()
    found = coverage(ov.Core().read_model(task.model()), task.split(0).calibration[0][0], {})
    assert found.macs == 2 * 8 * 8
    assert (found.int8_share, len(found.float_ops), found.int8_ops) == (0.0, 2, [])


def test_the_parts_of_a_split_are_disjoint_and_follow_the_seed() -> None:
    items = [(np.array([i]), i) for i in range(20)]
    split = split_items(items, 3, 5, 6, 7)
    labels = [label for part in (split.calibration, split.validation, split.held_out) for _, label in part]
    assert len(labels) == len(set(labels)) == 18
    assert digest(split.calibration) == digest(split_items(items, 3, 5, 6, 7).calibration)
    assert digest(split.calibration) != digest(split_items(items, 4, 5, 6, 7).calibration)


def test_ratio_interval_holds_the_ratio() -> None:
    random = np.random.default_rng(0)
    slow, fast = random.normal(2, 0.05, 30).tolist(), random.normal(1, 0.05, 30).tolist()
    ratio, low, high = ratio_interval(slow, fast)
    assert 1.9 < low < ratio < high < 2.1


def test_growth_finds_the_exponent() -> None:
    points = [{"size": n, "values": {"seconds": {"A": 3.0 * n**1.5, "B": None}}} for n in (10, 100, 1000)]
    exponent = growth(points, "seconds", "A")
    assert exponent is not None
    assert abs(exponent - 1.5) < 1e-9
    assert growth(points, "seconds", "B") is None


@pytest.mark.slow
def test_a_sweep_runs_both_sides_as_far_as_the_peer_goes(tmp_path: Path) -> None:
    sweep = Sweep("ops", (4, 10), ("quantize",), GOOD, GOOD, 0.001, rounds=1, limit_seconds=60.0, peer_up_to=4)
    run_sweep(sweep, tmp_path, say=lambda _: None)
    stored = json.loads((tmp_path / f"{sweep.label('quantize')}.json").read_text())
    assert [point["status"] for point in stored["points"]] == [{"A": "ok", "B": "ok"}, {"A": "ok", "B": "skipped"}]
    assert stored["exponents"]["wall time of the call, s"]["B"] is None
    rows = (tmp_path / f"{sweep.label('quantize')}.md").read_text().splitlines()
    assert [row.split(" | ")[0] for row in rows if row.startswith("| ")] == [
        "| quantizable ops", "| ---", "| 4", "| 10", "| exponent"
    ]  # fmt: skip
    assert "<svg" in (tmp_path / f"{sweep.label('quantize')}.svg").read_text()


def test_a_childs_memory_is_its_own(tmp_path: Path) -> None:
    """The kernel hands the peak of a process on to the programs that it starts."""
    held = np.ones(700_000_000, np.uint8)
    row = compare(tmp_path)["rounds"][0]["A"]
    assert row["status"] == "ok"
    assert row["peak_bytes"] < held.nbytes


def test_sqnr_is_the_power_of_the_outputs_over_that_of_the_error() -> None:
    def scaled(factor: float) -> ov.Model:
        x = opset.parameter([1, 8], np.float32)
        return ov.Model([opset.multiply(x, opset.constant(np.float32(factor)))], [x])

    inputs = [np.full((1, 8), value, np.float32) for value in (1.0, 3.0)]
    assert output_sqnr(scaled(1.0), scaled(0.9), inputs) == pytest.approx(20.0, abs=1e-3)  # -20 log10(0.1)
    assert output_sqnr(scaled(1.0), scaled(1.0), inputs) > 100.0
