"""Accuracy control through the public API, on the bundled model and the real runtime."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

import maxdrop as md
from maxdrop import demo
from maxdrop.backends.openvino.backend import OpenVINOBackend
from maxdrop.data.plan import load_plan
from tests.small_task import MAX_DROP, CountedAccuracy, accuracy, coarse, datasets

TIMELESS: dict[str, Any] = {"placement": "table", "allow_slower": True}
"""Arguments with which timing decides nothing."""


def control(**options: Any) -> md.AccuracyControlResult:
    calibration, validation = datasets()
    settings = {
        "max_drop": MAX_DROP,
        **TIMELESS,
        "advanced_quantization_parameters": coarse(),
        **options,
    }
    validate = settings.pop("validate", accuracy)
    return md.control_accuracy(demo.load_model(), calibration, validation, validate, **settings)


def model_bytes(model: ov.Model, folder: Path) -> bytes:
    folder.mkdir(exist_ok=True)
    OpenVINOBackend().save(model, folder / "model.xml")
    return (folder / "model.xml").read_bytes() + (folder / "model.bin").read_bytes()


@pytest.fixture(scope="module")
def reached(tmp_path_factory: pytest.TempPathFactory) -> tuple[md.AccuracyControlResult, Path]:
    folder = tmp_path_factory.mktemp("control")
    return control(output_dir=folder), folder


def test_int8_misses_the_limit_and_the_result_meets_it(
    reached: tuple[md.AccuracyControlResult, Path],
) -> None:
    result, _ = reached
    assert result.int8_drop is not None
    assert result.int8_drop > MAX_DROP
    assert result.reached
    assert result.drop <= MAX_DROP
    assert 0 < len(result.reverted) < len(result.plan.int8_ops)


def test_drop_is_that_of_the_saved_file(reached: tuple[md.AccuracyControlResult, Path]) -> None:
    result, folder = reached
    _, validation = datasets()
    core = ov.Core()
    saved = accuracy(core.compile_model(folder / "model.xml", "CPU"), validation.get_data())[0]
    floating = accuracy(core.compile_model(demo.load_model(), "CPU"), validation.get_data())[0]
    assert saved == result.metric
    assert floating - saved == result.drop
    assert floating - saved <= MAX_DROP


def test_a_printed_result_is_short(reached: tuple[md.AccuracyControlResult, Path]) -> None:
    result, _ = reached
    assert str(result) == result.summary()
    assert len(repr(result)) < 400
    assert f"drop={result.drop:.6g}" in repr(result)
    assert len(repr(result.plan)) < 200
    assert f"{len(result.plan.int8_ops)} int8 ops" in str(result.plan)


def test_summary_names_the_verdict_and_every_reverted_op(reached: tuple[md.AccuracyControlResult, Path]) -> None:
    result, _ = reached
    text = result.summary()
    assert "within the limit" in text
    assert all(op in text for op in result.reverted)


def test_no_single_reverted_op_can_be_quantized_again(reached: tuple[md.AccuracyControlResult, Path]) -> None:
    """Each was tried, or follows from a candidate that has more ops in float and still fails."""
    result, _ = reached
    tried = [(set(t.candidate.precisions), t.drop) for t in result.trace.trials if t.candidate is not None]
    failing = [floats for floats, drop in tried if drop is not None and drop > MAX_DROP]
    for op in result.reverted:
        assert any(set(result.reverted) - {op} <= floats for floats in failing)


def test_second_call_with_the_same_folder_evaluates_nothing(
    reached: tuple[md.AccuracyControlResult, Path],
) -> None:
    result, folder = reached
    counted = CountedAccuracy()
    again = control(output_dir=folder, validate=counted)
    assert counted.calls == 0
    assert again.plan == result.plan


def test_folder_of_another_search_is_refused(reached: tuple[md.AccuracyControlResult, Path]) -> None:
    with pytest.raises(md.TraceError, match="max_drop"):
        control(output_dir=reached[1], max_drop=0.5)


def test_same_call_gives_the_same_plan_and_bytes(
    reached: tuple[md.AccuracyControlResult, Path], tmp_path: Path
) -> None:
    result, _ = reached
    again = control()
    assert again.plan == result.plan
    assert model_bytes(again.model, tmp_path / "a") == model_bytes(result.model, tmp_path / "b")


def test_plan_alone_rebuilds_the_result_byte_for_byte(
    reached: tuple[md.AccuracyControlResult, Path], tmp_path: Path
) -> None:
    _, folder = reached
    plan, arrays = load_plan(folder / "plan.json")
    rebuilt = OpenVINOBackend().apply(demo.load_model(), plan, arrays)
    saved = (folder / "model.xml").read_bytes() + (folder / "model.bin").read_bytes()
    assert model_bytes(rebuilt, tmp_path) == saved


def test_inputs_are_untouched(tmp_path: Path) -> None:
    model = demo.load_model()
    calibration, validation = datasets()
    advanced = md.AdvancedQuantizationParameters()
    restorer = md.AdvancedAccuracyRestorerParameters(max_num_iterations=1)
    scope = md.IgnoredScope(types=["Add"])
    kept = [copy.deepcopy(dataclasses.asdict(x)) for x in (advanced, restorer, scope)]
    data = [pickle.dumps(vars(dataset)) for dataset in (calibration, validation)]
    before = model_bytes(model, tmp_path / "before")
    md.control_accuracy(
        model,
        calibration,
        validation,
        accuracy,
        max_drop=0.5,
        placement="table",
        allow_slower=True,
        ignored_scope=scope,
        advanced_quantization_parameters=advanced,
        advanced_accuracy_restorer_parameters=restorer,
    )
    assert model_bytes(model, tmp_path / "after") == before
    assert [dataclasses.asdict(x) for x in (advanced, restorer, scope)] == kept
    assert [pickle.dumps(vars(dataset)) for dataset in (calibration, validation)] == data


def test_int8_within_the_limit_takes_two_validations() -> None:
    counted = CountedAccuracy()
    result = control(max_drop=0.9, validate=counted)
    assert result.reached
    assert result.reverted == []
    # float and int8, and the two short calls that compare equal calls
    assert counted.calls == 4


def test_budget_of_no_iterations_returns_the_float_model() -> None:
    restorer = md.AdvancedAccuracyRestorerParameters(max_num_iterations=0)
    with pytest.warns(UserWarning, match="no 8-bit model"):
        result = control(advanced_accuracy_restorer_parameters=restorer)
    assert not result.reached
    assert result.drop == 0.0
    assert result.plan.int8_ops == ()
    assert "limit of 0" in result.stop_reason


def test_strict_raises_when_only_the_float_model_passes() -> None:
    restorer = md.AdvancedAccuracyRestorerParameters(max_num_iterations=0)
    with pytest.raises(md.TargetNotReachedError, match="max_drop"):
        control(advanced_accuracy_restorer_parameters=restorer, strict=True)


def test_only_activations_keeps_int8_weights() -> None:
    restorer = md.AdvancedAccuracyRestorerParameters(restore_mode=md.RestoreMode.ONLY_ACTIVATIONS)
    result = control(advanced_accuracy_restorer_parameters=restorer)
    assert result.reached
    stored = {q.uses[0].node for q in result.plan.quantizers if q.constant}
    served = {use.node for q in result.plan.quantizers if not q.constant for use in q.serves}
    assert result.reverted
    assert set(result.reverted) <= stored - served


def test_lower_is_better_mirrors_higher_is_better(reached: tuple[md.AccuracyControlResult, Path]) -> None:
    def error(compiled: ov.CompiledModel, items: Iterable[Any]) -> float:
        return -accuracy(compiled, items)[0]

    mirrored = control(validate=error, higher_is_better=False)
    assert mirrored.reverted == reached[0].reverted


def test_relative_drop_counts_in_shares_of_the_float_metric() -> None:
    def doubled(compiled: ov.CompiledModel, items: Iterable[Any]) -> float:
        return 2 * accuracy(compiled, items)[0]

    result = control(validate=doubled, drop_type=md.DropType.RELATIVE)
    assert result.reached
    assert result.drop == (result.float_metric - result.metric) / result.float_metric


def test_intermediate_model_is_the_int8_one(tmp_path: Path) -> None:
    restorer = md.AdvancedAccuracyRestorerParameters(intermediate_model_dir=str(tmp_path), max_num_iterations=0)
    with pytest.warns(UserWarning, match="no 8-bit model"):
        result = control(advanced_accuracy_restorer_parameters=restorer)
    compiled = ov.Core().compile_model(tmp_path / "intermediate_model.xml", "CPU")
    _, validation = datasets()
    assert result.float_metric - accuracy(compiled, validation.get_data())[0] == result.int8_drop


def test_ctrl_c_returns_the_best_so_far() -> None:
    calls = 0

    def interrupted(compiled: ov.CompiledModel, items: Iterable[Any]) -> float:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise KeyboardInterrupt
        return accuracy(compiled, items)[0]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # said only when no candidate has passed by then
        result = control(validate=interrupted)
    assert result.stop_reason == "interrupted by the user"
    assert result.drop <= MAX_DROP


class UserError(Exception):
    pass


def test_error_of_the_validation_function_reaches_the_user_and_the_trace_goes_on(tmp_path: Path) -> None:
    calls = 0

    def failing(compiled: ov.CompiledModel, items: Iterable[Any]) -> float:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise UserError("disk full")
        return accuracy(compiled, items)[0]

    with pytest.raises(UserError, match="disk full") as caught:
        control(validate=failing, output_dir=tmp_path)
    assert caught.traceback[-1].name == "failing"
    counted = CountedAccuracy()
    result = control(validate=counted, output_dir=tmp_path)
    failed = [t for t in result.trace.trials if t.state == "failed"]
    assert [t.error for t in failed] == [f"{__name__}.UserError: disk full"]
    assert counted.calls == len(result.trace.trials) - 3  # float, int8 and the failed one are not scored again


@pytest.mark.parametrize("metric", [float("nan"), float("inf"), None, "good"])
def test_metric_that_is_no_finite_number_is_refused(metric: Any) -> None:
    with pytest.raises(md.MetricError):
        control(validate=lambda compiled, items: metric)


def test_changing_metric_is_warned_about() -> None:
    noise = iter(np.linspace(0.0, 1e-3, 100))
    with pytest.warns(UserWarning, match="same metric for the same model"):
        control(validate=lambda c, i: accuracy(c, i)[0] + next(noise), max_drop=0.9)


def test_options_of_the_search_reach_it_through_the_public_function(tmp_path: Path) -> None:
    def two(compiled: ov.CompiledModel, items: Iterable[Any]) -> dict[str, float]:
        found = accuracy(compiled, items)[0]
        return {"top1": found, "wrong": 1.0 - found}

    result = control(
        validate=two,
        max_drop={"top1": 0.9, "wrong": 0.9},
        higher_is_better={"wrong": False},
        min_metric={"top1": 0.1},
        holdout=0.2,
        max_validations=3,
        strategy="greedy",
        seed=5,
        output_dir=tmp_path,
    )
    assert result.reached
    assert result.drops["top1"] == pytest.approx(result.drops["wrong"])
    assert result.holdout_drop is not None
    settings = result.trace.header.settings
    assert (settings["seed"], settings["strategy"], settings["holdout"]) == (5, "greedy", 0.2)


def test_predicted_cost_of_the_bundled_model(tmp_path: Path) -> None:
    calls = CountedAccuracy()
    predicted = md.predict_cost(
        demo.load_model(), *datasets(), calls, placement="table", max_validations=7, output_dir=tmp_path / "out"
    )
    assert predicted.int8_ops == 14
    assert (predicted.least.validations, predicted.most.validations) == (2, 7)
    assert {s.name: s.forwards for s in predicted.least.steps}["validation"] == 2 * 120
    assert predicted.validation_is_timed
    assert calls.calls == 1
    assert not (tmp_path / "out").exists()
    with pytest.raises(md.ValidationError, match="max_drop"):
        md.predict_cost(demo.load_model(), *datasets(), max_drop=-1.0)


@pytest.mark.parametrize("max_drop", [-0.1, float("nan"), "0.1"])
def test_bad_limit_is_refused(max_drop: Any) -> None:
    with pytest.raises(md.ValidationError, match="max_drop"):
        control(max_drop=max_drop)


@pytest.mark.parametrize("part", [0, 1])
def test_empty_dataset_is_refused(part: int) -> None:
    parts = list(datasets())
    parts[part] = md.Dataset([])
    with pytest.raises(md.ValidationError, match="at least one item"):
        md.control_accuracy(demo.load_model(), parts[0], parts[1], accuracy)


def test_one_shot_dataset_is_refused_and_a_function_is_taken() -> None:
    _, validation = datasets()
    items = demo.calibration_items()[:8]
    with pytest.raises(md.ValidationError, match="more than once"):
        md.control_accuracy(demo.load_model(), md.Dataset(x for x in items), validation, accuracy)
    fresh = md.Dataset(lambda: (x for x in items))
    assert md.control_accuracy(demo.load_model(), fresh, validation, accuracy, max_drop=0.9, **TIMELESS).reached


def test_items_that_do_not_fit_are_explained() -> None:
    _, validation = datasets()
    wrong = md.Dataset([np.zeros((1, 3, 48, 48), np.float32)])
    with pytest.raises(md.ValidationError, match=r"sample 0 is ndarray\[1, 3, 48, 48\]"):
        md.control_accuracy(demo.load_model(), wrong, validation, accuracy)
