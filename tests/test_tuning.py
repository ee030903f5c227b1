"""Other int8 forms in whole searches: before an op becomes float, and with `tune_hyperparams` before the search."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as opset

import maxdrop as md
from maxdrop.backends.openvino.backend import OpenVINOBackend
from maxdrop.control import AccuracyControl, ControlOptions
from maxdrop.data.plan import Candidate, load_plan, save_plan
from maxdrop.data.spec import AggregatorKind, BoundSpec, EstimatorSpec, Form, Policy, StatisticKind
from maxdrop.data.trace import read_trace
from maxdrop.dataset import Dataset
from maxdrop.inspection import inspect_model
from maxdrop.options import AdvancedAccuracyRestorerParameters
from maxdrop.preparation import Prepared, calibrate
from maxdrop.progress import ProgressReporter
from maxdrop.ptq.build import Planner
from maxdrop.ptq.numerics import nmse
from maxdrop.resolve import QuantizeOptions
from maxdrop.result import AccuracyControlResult
from maxdrop.search.criterion import Criterion
from maxdrop.search.retune import Retuned
from maxdrop.testing.toy_backend import ToyBackend, ToyCompiled
from tests.search.test_retune import CountingBackend
from tests.toys import rare_model, rare_samples, rare_weights

# Forms that nobody wished for, and in which the extremes that count are cut off.
LOW = BoundSpec(statistic=StatisticKind.MIN, aggregator=AggregatorKind.MIN, clipping_value=10.0)
HIGH = BoundSpec(statistic=StatisticKind.MAX, aggregator=AggregatorKind.MAX, clipping_value=10.0)
CLIPPED = Form(estimator=EstimatorSpec(name="bounds", lower=LOW, upper=HIGH), smooth_quant="off")
POOR = Policy(placement="all", tuned={"first": CLIPPED, "spikes": CLIPPED})
ITEMS = rare_samples(12, seed=2)
EXACT = [rare_model().run(item)[0] for item in ITEMS]


def closeness(compiled: Any, items: Iterable[Any]) -> float:
    """1 - mean NMSE against the float model, so that every int8 op costs something."""
    return 1.0 - float(np.mean([nmse(exact, compiled(item)[0]) for item, exact in zip(items, EXACT, strict=False)]))


def control(
    max_drop: float,
    folder: Path | None = None,
    backend: ToyBackend | None = None,
    validate: Any = closeness,
    strategy: str = "bracket",
    **restorer: Any,
) -> AccuracyControlResult:
    chosen, model = backend or ToyBackend(), rare_model()
    options = ControlOptions(
        Criterion(max_drop=max_drop),
        AdvancedAccuracyRestorerParameters(**restorer),
        {},
        None,
        folder,
        allow_slower=True,
        strategy=strategy,
    )
    prepared = Prepared(chosen, model, chosen.graph(model), POOR)
    search = AccuracyControl(prepared, QuantizeOptions(), options, ProgressReporter(False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about few items
        return search.run(Dataset(rare_samples(24)), Dataset(ITEMS), validate)


def int8_drop(**chosen: Any) -> float:
    found = control(1.0, **chosen).int8_drop
    assert found is not None
    return found


LIMIT = 0.01
TIGHT = 1e-4
"""Where the forms alone are not enough."""


def test_ops_get_another_int8_form_before_any_becomes_float(tmp_path: Path) -> None:
    result = control(LIMIT, tmp_path)
    assert result.reached
    assert result.drop <= LIMIT
    assert result.plan.candidate.precisions == {}
    assert [t.role for t in result.trace.trials] == ["float", "int8", "search"]
    assert "other int8 forms" in result.stop_reason
    plan, arrays = load_plan(tmp_path / "plan.json")
    assert {v for v, form in plan.policy.tuned.items() if form != CLIPPED} >= {"first", "spikes"}
    rebuilt = ToyBackend().apply(rare_model(), plan, arrays)
    assert closeness(ToyCompiled(rebuilt), ITEMS) == result.metric


def test_without_the_other_forms_ops_become_float() -> None:
    """What other tools do is there to compare with, and does not retune."""
    result = control(LIMIT, strategy="greedy")
    assert result.reached
    assert result.plan.candidate.precisions
    assert result.plan.policy == POOR
    assert "retuned" not in result.trace.notes


def test_a_search_goes_on_with_the_forms_where_they_are_not_enough() -> None:
    result = control(TIGHT)
    assert result.reached
    assert result.drop <= TIGHT
    assert result.plan.candidate.precisions
    assert set(result.plan.candidate.precisions) < set(result.plan.int8_ops) | set(result.plan.candidate.precisions)
    assert result.plan.policy.tuned != POOR.tuned


def test_forms_that_the_metric_dislikes_are_given_up() -> None:
    tuned = control(LIMIT).plan.quantizers

    def against(compiled: ToyCompiled, items: Iterable[Any]) -> float:
        """Closeness, but far off for a model in which the first activation has its new scale."""
        scales = [op.attrs["params"]["scale"] for op in compiled.model.ops if op.type == "FakeQuantize"]
        disliked = next(q for q in tuned if q.value == "first" and not q.constant)
        return closeness(compiled, items) - (list(disliked.params.scale) in scales)

    result = control(LIMIT, validate=against)
    assert [t.drop for t in result.trace.trials][2] > 0.5  # type: ignore[operator]
    assert result.reached
    assert result.plan.policy == POOR
    assert result.plan.candidate.precisions


@pytest.mark.parametrize("tune", [False, True])
def test_validations_are_few_at_any_limit(tune: bool) -> None:
    used = []
    for limit in (LIMIT, 1e-3, TIGHT, 5e-5, 1e-5, 0.0):
        result = control(limit, tune_hyperparams=tune)
        assert result.drop <= limit
        used.append(sum(t.validations for t in result.trace.trials))
    assert max(used) <= 10
    assert np.median(used) <= 7


def test_an_interrupted_search_returns_a_model_of_its_own_trials() -> None:
    calls = 0

    def impatient(compiled: ToyCompiled, items: Iterable[Any]) -> float:
        nonlocal calls
        calls += 1
        if calls > 6:  # float, two short calls, int8, all retuned, a candidate
            raise KeyboardInterrupt
        return closeness(compiled, items)

    result = control(0.5 * TIGHT, validate=impatient)
    assert "interrupted" in result.stop_reason
    assert result.drop <= 0.5 * TIGHT
    assert closeness(ToyCompiled(result.model), ITEMS) == pytest.approx(result.metric)


def test_a_trial_in_other_forms_is_not_taken_for_a_plain_one(tmp_path: Path) -> None:
    """Interrupted before the forms are read back, although the trace holds a passing trial in them."""
    control(LIMIT, tmp_path)
    path = tmp_path / "trace.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"name":"repeatable"' not in line))

    def interrupted(compiled: ToyCompiled, items: Iterable[Any]) -> float:
        raise KeyboardInterrupt

    result = control(LIMIT, tmp_path, validate=interrupted)
    assert "interrupted" in result.stop_reason
    assert closeness(ToyCompiled(result.model), ITEMS) == pytest.approx(result.metric)


@pytest.mark.parametrize("tune", [False, True])
def test_a_resumed_search_measures_nothing_again(tmp_path: Path, tune: bool) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    first = control(TIGHT, whole, tune_hyperparams=tune)
    cut.mkdir()
    shutil.copy(whole / "stats.npz", cut)
    lines = (whole / "trace.jsonl").read_text().splitlines(keepends=True)
    last = "tuned" if tune else "gain"  # the note after which only the search itself was left
    end = next(i for i, line in enumerate(lines) if f'"name":"{last}"' in line)
    retuned = next(i for i, line in enumerate(lines) if '"name":"retuned"' in line)
    (cut / "trace.jsonl").write_text("".join(lines[: max(end, retuned) + 1]))
    backend = CountingBackend()
    second = control(TIGHT, cut, backend, tune_hyperparams=tune)
    assert backend.forwards == 0
    assert second.plan == first.plan
    trials = [read_trace(folder / "trace.jsonl")[1] for folder in (whole, cut)]
    assert [(t.plan_key, t.metric) for t in trials[0]] == [(t.plan_key, t.metric) for t in trials[1]]


def test_tune_hyperparams_improves_the_fully_quantized_model_and_counts_its_forwards(tmp_path: Path) -> None:
    backend = CountingBackend()
    tuned = control(LIMIT, tmp_path, backend, tune_hyperparams=True)
    assert tuned.int8_drop is not None
    assert tuned.int8_drop < 0.01 * int8_drop()
    assert [t.role for t in tuned.trace.trials] == ["float", "int8"]
    note, forms = tuned.trace.notes["tuned"], tuned.trace.notes["retuned"]
    assert tuned.plan.policy == Policy.model_validate(note["policy"])
    ranking = 4 * (len(tuned.plan.int8_ops) + 1)
    assert backend.forwards == note["forwards"] + ranking + forms["forwards"]
    assert note["forwards"] <= 16 * (2 + 2 * len(note["errors"]))
    assert int8_drop(tune_hyperparams=True) == tuned.int8_drop


def test_a_model_says_how_its_ops_were_tuned(tmp_path: Path) -> None:
    model, backend = openvino_model(), OpenVINOBackend()
    prepared = Prepared(backend, model, backend.graph(model), POOR)
    statistics = calibrate(prepared, Dataset(rare_samples(2)), 2, ProgressReporter(False)).statistics
    planner = Planner(prepared.graph, POOR, statistics)
    plan = planner(Candidate())
    quantized = backend.apply(model, plan, planner.arrays)
    backend.save(quantized, tmp_path / "model.xml")
    found = {op.name: op.form for op in inspect_model(tmp_path / "model.xml").ops}
    assert found == {"first": "", "rare": CLIPPED.text, "last": CLIPPED.text, "more": ""}
    save_plan(plan, planner.arrays, tmp_path / "plan.json")
    assert found == {op.name: op.form for op in inspect_model(model, tmp_path / "plan.json").ops}
    assert CLIPPED.text == "range by min min to max max, SmoothQuant off"


def openvino_model() -> ov.Model:
    """`rare_model` in OpenVINO."""
    constants = {
        name: opset.constant(array, name=name) for name, array in rare_weights(np.random.default_rng(0), 16).items()
    }
    x = opset.parameter([64, 16], np.float32, name="x")
    first = opset.matmul(x, constants["w_first"], False, False, name="first")
    rare = opset.matmul(first, constants["w_rare"], False, False, name="rare")
    spikes = opset.relu(opset.add(rare, constants["minus"], name="beyond"), name="spikes")
    last = opset.matmul(spikes, constants["w_last"], False, False, name="last")
    more = opset.matmul(last, constants["w_more"], False, False, name="more")
    return ov.Model([opset.result(more, name="y")], [x], "rare")


def test_on_openvino_by_the_public_api() -> None:
    result = md.control_accuracy(
        openvino_model(),
        md.Dataset(rare_samples(24)),
        md.Dataset(ITEMS),
        closeness,
        max_drop=0.5,
        placement="all",
        allow_slower=True,
        compile_config={"INFERENCE_PRECISION_HINT": "f32"},
        advanced_accuracy_restorer_parameters=md.AdvancedAccuracyRestorerParameters(tune_hyperparams=True),
    )
    errors, retuned = result.trace.notes["tuned"]["errors"], Retuned.model_validate(result.trace.notes["retuned"])
    assert 0.0 < errors[""] < 0.01
    assert errors["symmetric activations"] != errors[""]
    assert retuned.measured > 0
    assert result.reached
    assert len(result.trace.trials) == 2
