"""Biases corrected by measurement: `fast_bias_correction=False`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from openvino import opset13 as op

import maxdrop as md
from maxdrop.control import AccuracyControl, ControlOptions
from maxdrop.data.plan import Candidate, load_plan
from maxdrop.data.spec import (
    ActivationPolicy,
    AggregatorKind,
    BoundSpec,
    EstimatorSpec,
    Policy,
    Precision,
    SmoothQuantPolicy,
    StatisticKind,
)
from maxdrop.data.statistics import Statistics, TensorStatistics
from maxdrop.options import (
    AdvancedAccuracyRestorerParameters,
    AdvancedQuantizationParameters,
    RangeEstimatorParametersSet,
)
from maxdrop.preparation import Prepared
from maxdrop.progress import ProgressReporter
from maxdrop.ptq.build import Planner
from maxdrop.ptq.calibration import calibration_requests
from maxdrop.ptq.numerics import nmse
from maxdrop.ptq.payoff import choose_int8
from maxdrop.ptq.sequential_bias import CHECKED, BiasTable, Shifts, end_requests, levels, measure_shifts, split_samples
from maxdrop.resolve import QuantizeOptions
from maxdrop.result import AccuracyControlResult
from maxdrop.search.criterion import Criterion
from maxdrop.testing.toy_backend import ToyBackend, ToyCompiled
from maxdrop.testing.toy_model import ToyModel
from tests.graphs.check import BACKEND
from tests.graphs.layers import conv, depthwise, model, named, parameter, rng
from tests.graphs.random_graph import STEPS, Step, build
from tests.toys import toy_model, toy_samples

CLIPPED = EstimatorSpec(
    name="bounds",
    lower=BoundSpec(statistic=StatisticKind.MIN, aggregator=AggregatorKind.MEAN, clipping_value=0.7),
    upper=BoundSpec(statistic=StatisticKind.MAX, aggregator=AggregatorKind.MEAN, clipping_value=0.7),
)
COARSE = Policy(
    placement="all",
    activations=ActivationPolicy(estimator=CLIPPED, symmetric=True),
    smooth_quant=SmoothQuantPolicy(matmul=None, convolution=None),
    sequential_bias_correction=True,
)
"""Clips much in every op, so that there is something to correct."""


def toy_planner(backend: ToyBackend, samples: Sequence[Any]) -> Planner:
    graph = backend.graph(toy_model())
    requests = calibration_requests(graph, choose_int8(graph, COARSE)[0])
    return Planner(graph, COARSE, backend.observe(toy_model(), requests, samples, lambda done: None))


def toy_error(planner: Planner, samples: Sequence[Any]) -> NDArray[np.float64]:
    """Mean error of each output channel."""
    quantized = ToyBackend().apply(toy_model(), planner(Candidate()), planner.arrays)
    pairs = [(quantized.run(sample)[0], toy_model().run(sample)[0]) for sample in samples]
    return np.asarray(np.mean([(a - b).mean(axis=0, dtype=np.float64) for a, b in pairs], axis=0))


def test_nothing_is_left_of_the_mean_error() -> None:
    """The last op is measured with all others corrected, so the mean output is exactly that of the float model."""
    samples = toy_samples(2 * CHECKED - 1)  # so few that all serve for measuring
    planner = toy_planner(ToyBackend(), samples)
    ticks: list[int] = []
    shifts = measure_shifts(planner, ToyBackend(), toy_model(), samples, ticks.append)
    assert set(shifts) == set(planner.int8_ops)
    assert ticks == list(range(1, ticks[-1] + 1))
    before, after = (toy_error(p, samples) for p in (planner, planner.with_bias_shifts(shifts)))
    assert np.abs(before).max() > 1e-3
    assert np.abs(after).max() < 1e-6


class Deceived(ToyBackend):
    """Sees means of quantized models that are far from the true ones."""

    def observe(self, model: ToyModel, *rest: Any, **options: Any) -> Statistics:
        """The truth about float models only."""
        found = super().observe(model, *rest, **options)
        if not any(o.type == "FakeQuantize" for o in model.ops):
            return found
        wrong = {
            key: TensorStatistics(**{**vars(t), "channel_mean": t.channel_mean + np.float32(1)})
            for key, t in found.tensors.items()
        }
        return Statistics(wrong, found.graph)


def test_shifts_that_make_the_outputs_worse_are_dropped() -> None:
    samples = toy_samples(3 * CHECKED)
    planner = toy_planner(ToyBackend(), samples)
    assert measure_shifts(planner, ToyBackend(), toy_model(), samples, lambda done: None)
    assert measure_shifts(planner, Deceived(), toy_model(), samples, lambda done: None) == {}


def test_outputs_are_compared_in_front_of_a_final_softmax() -> None:
    x = parameter((1, 8, 6, 6))
    logits = named(conv(x, 4, "a"), "logits")
    graph = BACKEND.graph(model([op.softmax(logits, 1), named(op.relu(logits), "other")], [x]))
    assert {request.value for request in end_requests(graph)} == {"logits", "other"}


def test_a_reverted_op_loses_its_shift_and_the_others_keep_theirs() -> None:
    planner = toy_planner(ToyBackend(), toy_samples())
    table: Shifts = {name: np.full(8, i + 1, np.float32) for i, name in enumerate(planner.int8_ops)}
    measured = planner.with_bias_shifts(table)
    gone, *kept = planner.int8_ops
    plan = measured(Candidate(precisions={gone: Precision.FLOAT}))
    assert [edit.op for edit in plan.edits] == kept
    for edit in plan.edits:
        np.testing.assert_array_equal(measured.arrays.get(edit.shift), table[edit.op])
    assert planner(Candidate()) == toy_planner(ToyBackend(), toy_samples())(Candidate())  # is left as it was


@given(steps=STEPS)
def test_no_op_is_corrected_together_with_one_behind_it(steps: list[Step]) -> None:
    graph = BACKEND.graph(build(steps))
    ops = [node.name for node in graph.contractions]
    found = levels(graph, ops)
    assert [name for level in found for name in level] == sorted(ops, key=[n for lv in found for n in lv].index)
    above: dict[str, set[str]] = {}
    for node in graph:
        parts = (above[graph.value(v).producer] | {graph.value(v).producer} for v in node.inputs)
        above[node.name] = set().union(*parts)
    place = {name: i for i, level in enumerate(found) for name in level}
    assert all(place[high] < place[low] for low in ops for high in above[low] & set(ops))


@given(st.integers(0, 60))
def test_samples_to_check_on_are_no_others(count: int) -> None:
    measured, checked = split_samples(range(count))
    if count < 2 * CHECKED:
        assert measured == checked == list(range(count))
    else:
        assert sorted(measured + checked) == list(range(count))
        assert len(checked) == CHECKED


@given(hnp.arrays(np.float32, st.integers(1, 5), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_a_table_survives_the_way_to_disk(shift: NDArray[np.float32]) -> None:
    table = BiasTable.model_validate_json(BiasTable.of({"op": shift}).model_dump_json())
    assert table.arrays["op"].dtype == np.float32
    np.testing.assert_array_equal(table.arrays["op"], shift)


def chain(batch: int) -> ov.Model:
    """Linear bottlenecks, where an error in front is amplified behind."""
    x = parameter((batch, 8, 8, 8))
    y = x
    for i in range(3):
        y = op.relu(conv(y, 16, f"wide{i}", kernel=1))
        y = conv(op.relu(depthwise(y, f"dw{i}")), 8, f"narrow{i}", kernel=1, bias=i > 0)
    return model([named(op.reduce_mean(y, op.constant([2, 3]), False), "pool")], [x])


@pytest.mark.parametrize("batch", [1, -1])
def test_the_mean_output_of_a_quantized_model_is_better(batch: int) -> None:
    images = [(rng(f"chain{i}").standard_normal((1, 8, 8, 8)) ** 3).astype(np.float32) for i in range(40)]
    advanced = AdvancedQuantizationParameters(
        activations_range_estimator_params=RangeEstimatorParametersSet.MEAN_MINMAX, smooth_quant_alpha=-1.0
    )
    float_model = chain(batch)

    def mean(made: ov.Model) -> NDArray[Any]:
        compiled = BACKEND.compile(made, {"INFERENCE_PRECISION_HINT": "f32"})
        return np.asarray(np.mean([compiled(x)[0] for x in images], axis=0))

    fast, slow = (
        np.abs(
            mean(
                md.quantize(
                    float_model,
                    md.Dataset(images),
                    fast_bias_correction=fast,
                    placement="all",
                    advanced_parameters=advanced,
                )
            )
            - mean(float_model)
        ).max()
        for fast in (True, False)
    )
    assert slow < 0.5 * fast


def test_data_that_can_be_iterated_once_are_refused() -> None:
    images = (x for x in [np.ones((1, 8, 8, 8), np.float32)] * 3)
    with pytest.raises(md.ValidationError, match="second time"):
        md.quantize(chain(1), md.Dataset(images), fast_bias_correction=False, placement="all")


class Counted(ToyBackend):
    """Counts passes over the model."""

    passes = 0

    def observe(self, *arguments: Any, **options: Any) -> Statistics:
        """Count and observe."""
        self.passes += 1
        return super().observe(*arguments, **options)


def _validate(compiled: ToyCompiled, items: Any) -> float:
    pairs = [(compiled(item)[0], toy_model().run(item)[0]) for item in items]
    return 1.0 - nmse(np.concatenate([b for _, b in pairs]), np.concatenate([a for a, _ in pairs]))


def _control(backend: ToyBackend, folder: Path, validate: Any = _validate) -> AccuracyControlResult:
    control = ControlOptions(
        Criterion(max_drop=0.1), AdvancedAccuracyRestorerParameters(), {}, None, folder, allow_slower=True
    )
    prepared = Prepared(backend, toy_model(), backend.graph(toy_model()), COARSE)
    search = AccuracyControl(prepared, QuantizeOptions(fast_bias_correction=False), control, ProgressReporter(False))
    return search.run(md.Dataset(toy_samples(24)), md.Dataset(toy_samples(4, seed=2)), validate)


def test_a_search_that_goes_on_makes_the_same_plans(tmp_path: Path) -> None:
    calm = _control(Counted(), tmp_path / "calm")
    assert "bias_shifts" in calm.trace.notes
    assert calm.reverted
    calls = 0

    def failing(compiled: ToyCompiled, items: Any) -> float:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise RuntimeError("power cut")
        return _validate(compiled, items)

    with pytest.raises(RuntimeError, match="power cut"):
        _control(Counted(), tmp_path / "cut", failing)
    backend = Counted()
    resumed = _control(backend, tmp_path / "cut")
    assert backend.passes == 0  # neither calibrated nor measured again
    assert resumed.plan == calm.plan
    assert load_plan(tmp_path / "cut" / "plan.json")[0] == load_plan(tmp_path / "calm" / "plan.json")[0]
    assert {edit.reason for edit in calm.plan.edits} == {"mean error of the output, measured"}
