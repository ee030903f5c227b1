"""The report: right facts, self-contained, and safe whatever ops are called."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maxdrop.data.plan import Arrays, Candidate, QuantizationPlan, Quantizer, UseRef, save_plan
from maxdrop.data.spec import Policy, Precision, QuantizerSpec, QuantParams
from maxdrop.data.statistics import Statistics, TensorStatistics
from maxdrop.data.trace import Evidence, Note, Trace, TraceHeader, Trial
from maxdrop.errors import TraceError
from maxdrop.report.charts import MOST_BARS, shorten
from maxdrop.report.facts import read_facts, result_note
from maxdrop.report.page import write_report

NASTY = 'a<b>&$x_1$ "é"'
OPS = ("conv1", "conv2", NASTY)


def plan_of(candidate: Candidate, floats: dict[str, str]) -> QuantizationPlan:
    quantizer = Quantizer(
        id="x", value="x", uses=(UseRef(node="conv1", index=0),), serves=(UseRef(node="conv1", index=0),),
        constant=False, spec=QuantizerSpec(dtype="uint8"), params=QuantParams(scale=(0.01,), zero_point=(0,)),
        group="x",
    )  # fmt: skip
    return QuantizationPlan(
        graph="f" * 64, policy=Policy(), candidate=candidate, quantizers=(quantizer,),
        int8_ops=tuple(op for op in OPS if op not in floats), float_ops=floats,
    )  # fmt: skip


def write_search(folder: Path, *, reached: bool = True, plan: bool = True, note: bool = True) -> QuantizationPlan:
    """The files of a search with a float, an int8, a failed and a passing trial."""
    candidate = Candidate(precisions={NASTY: Precision.FLOAT} if reached else dict.fromkeys(OPS, Precision.FLOAT))
    made = plan_of(candidate, {NASTY: "accuracy control: <costly>"} if reached else dict.fromkeys(OPS, "reverted"))
    header = TraceHeader(
        versions={"maxdrop": "1"},
        model="f" * 64,
        settings={"criterion": {"max_drop": 0.01, "drop_type": "absolute"}, "subset_size": 300},
    )
    trace = Trace(folder / "trace.jsonl", header)
    trace.add(Trial(number=0, role="float", candidate=None, metric=0.9, drop=0.0, seconds=1.0))
    trace.add(Trial(number=1, role="int8", candidate=Candidate(), plan_key="k1", metric=0.5, drop=0.4, seconds=1.0))
    trace.add(Note(name="sensitivity", content={"conv1": 1e-5, "conv2": 0.0, NASTY: 0.2}))
    failed = Trial(number=2, role="search", candidate=Candidate(), plan_key="k2", state="failed", error="<Oops>")
    trace.add(failed)
    if reached:
        trace.add(
            Trial(
                number=3, role="search", candidate=candidate, plan_key=made.key(), metric=0.895, drop=0.005, seconds=2
            )
        )
    if note:
        trace.add(
            result_note(
                stop_reason="the search was complete", float_seconds=0.004, seconds=0.002, speedup=1.987,
                speedup_interval=(1.9, 2.1), drop_interval=(0.001, 0.009), int8_macs_share=0.81,
                holdout_drop=0.0042, remarks=["few <items>"],
            )
        )  # fmt: skip
    if plan:
        save_plan(made, Arrays(), folder / "plan.json")
    return made


def page_of(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Collects tags, and attributes that could load something."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.loads += [str(value) for key, value in attrs if key in {"src", "href", "xlink:href", "srcset"}]


def test_reached(tmp_path: Path) -> None:
    write_search(tmp_path)
    facts = read_facts(tmp_path)
    assert facts.outcome == "reached"
    assert facts.chosen is not None
    assert facts.chosen.number == 3
    page = page_of(tmp_path)
    texts = ["Reached", "limit 0.01", "1.99x", "1.90x to 2.10x", "81.0% of the multiply"]
    for text in [*texts, "0.0042 on items that", "Few &lt;items&gt;."]:
        assert text in page


def test_not_reached(tmp_path: Path) -> None:
    write_search(tmp_path, reached=False)
    assert read_facts(tmp_path).outcome == "not reached"
    page = page_of(tmp_path)
    assert "Not reached" in page
    assert "The result is the float model" in page


def test_a_search_that_was_cut_off_gives_a_page_too(tmp_path: Path) -> None:
    write_search(tmp_path, plan=False, note=False)
    assert read_facts(tmp_path).outcome == "unfinished"
    assert "Not finished yet" in page_of(tmp_path)


def test_a_report_needs_no_note(tmp_path: Path) -> None:
    write_search(tmp_path, note=False)
    assert "1.99x" not in page_of(tmp_path)


def test_nothing_is_loaded_and_nothing_runs(tmp_path: Path) -> None:
    write_search(tmp_path)
    page = page_of(tmp_path)
    tags = Tags()
    tags.feed(page)
    assert tags.names.isdisjoint({"script", "link", "img", "iframe", "object", "embed"})
    assert all(load.startswith("#") for load in tags.loads)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert len(page.encode()) < 300_000


def test_names_are_escaped(tmp_path: Path) -> None:
    write_search(tmp_path)
    page = page_of(tmp_path)
    assert "<b>" not in page
    assert "<Oops>" not in page
    assert "<costly>" not in page
    assert "&lt;Oops&gt;" in page
    assert page.count("$x_1$") >= 4


def test_equal_files_give_equal_pages(tmp_path: Path) -> None:
    write_search(tmp_path)
    assert page_of(tmp_path) == page_of(tmp_path)


def test_statistics_show_what_calibration_saw(tmp_path: Path) -> None:
    write_search(tmp_path)
    assert "-0.25 … 3" not in page_of(tmp_path)
    ends = np.array([-0.25], np.float32), np.array([3.0], np.float32)
    rows, sample = np.zeros((1, 1), np.float32), np.zeros(1, np.int32)
    tensor = TensorStatistics(*ends, *ends, ends[0], rows, sample)
    Statistics({"x": tensor}, "f" * 64).save(tmp_path / "stats.npz")
    page = page_of(tmp_path)
    assert "-0.25 … 3" in page
    assert "0 … 2.55" in page


def test_many_ops_are_cut_to_the_most_sensitive(tmp_path: Path) -> None:
    write_search(tmp_path)
    header = read_facts(tmp_path).header
    many = {f"op{i}": 10.0**-i for i in range(MOST_BARS + 5)}
    Trace(tmp_path / "trace.jsonl", TraceHeader(**header)).add(Note(name="sensitivity", content=many))
    page = page_of(tmp_path)
    assert f"The {MOST_BARS} most sensitive of {MOST_BARS + 5} ops" in page
    assert f"op{MOST_BARS - 1}:" in page
    assert f"op{MOST_BARS}:" not in page


def test_a_folder_without_a_trace(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"must hold trace\.jsonl"):
        write_report(tmp_path)


@pytest.mark.parametrize(("name", "shown"), [("short", "short"), ("a" * 30 + "b" * 30, "a" * 21 + "…" + "b" * 21)])
def test_long_names_lose_their_middle(name: str, shown: str) -> None:
    assert shorten(name) == shown


def test_measured_placement_is_shown(tmp_path: Path) -> None:
    write_search(tmp_path)
    assert "Where int8 pays" not in page_of(tmp_path)
    header = TraceHeader(**read_facts(tmp_path).header)
    variant = {"name": "dense+depthwise", "ops": ["conv1"], "speedup": 1.37}
    Trace(tmp_path / "trace.jsonl", header).add(Note(name="payoff", content={"variants": [variant]}))
    page = page_of(tmp_path)
    assert "dense+depthwise" in page
    assert "1.37x" in page


def test_rejected_trials_and_several_metrics(tmp_path: Path) -> None:
    criterion = {"max_drop": 1.0, "drop_type": "share of the limit"}
    trace = Trace(
        tmp_path / "trace.jsonl",
        TraceHeader(versions={}, model="f" * 64, settings={"criterion": criterion, "subset_size": 300}),
    )
    trace.add(Trial(number=0, role="float", candidate=None, metric=0.9, metrics={"f1": 0.9, "recall": 0.8}, drop=0.0))
    evidence = Evidence(test="bound", items=25, of=100, text="hopeless after 25 of 100 items")
    rejected = Trial(number=1, role="int8", candidate=Candidate(), state="rejected", drop=0.7, evidence=evidence)
    trace.add(rejected)
    facts = read_facts(tmp_path)
    assert facts.max_drop == 1.0
    assert facts.drop_type == "share of the limit"
    assert not facts.passes(rejected)
    page = page_of(tmp_path)
    assert "hopeless after 25 of 100 items" in page
    assert "f1 0.9, recall 0.8" in page


def test_a_limit_on_the_upper_end_of_the_interval(tmp_path: Path) -> None:
    write_search(tmp_path)
    facts = read_facts(tmp_path)
    sure = Trial(number=9, role="search", candidate=Candidate(), metric=0.9, drop=0.005, upper=0.02)
    assert facts.passes(sure.model_copy(update={"upper": None}))
    assert not facts.passes(sure)
    Trace(tmp_path / "trace.jsonl", TraceHeader(**facts.header)).add(sure)
    assert "0.005, at most 0.02" in page_of(tmp_path)


def test_settings_are_listed(tmp_path: Path) -> None:
    write_search(tmp_path)
    page = page_of(tmp_path)
    assert "criterion.max_drop" in page
    assert "version of maxdrop" in page


def test_ranges_of_per_channel_quantizers(tmp_path: Path) -> None:
    made: Any = write_search(tmp_path)
    spec = QuantizerSpec(dtype="int8", axes=(1,))
    params = QuantParams(scale=(0.01, 0.02), zero_point=(0, 0))
    quantizer = made.quantizers[0].model_copy(update={"spec": spec, "params": params})
    save_plan(made.model_copy(update={"quantizers": (quantizer,)}), Arrays(), tmp_path / "plan.json")
    value = read_facts(tmp_path).values[0]
    assert value.scheme == "int8 symmetric per channel"
    assert value.covers == pytest.approx((-2.56, 2.54))
