"""What an op is worth, by objective."""

from __future__ import annotations

from typing import Any

import openvino as ov
import pytest

import maxdrop as md
from maxdrop import demo
from maxdrop.backends.openvino.backend import OpenVINOBackend
from maxdrop.backends.openvino.profile import kernel_names
from maxdrop.search.gain import gain_by_op
from maxdrop.testing.toy_backend import ToyBackend
from tests.small_task import MAX_DROP, accuracy, coarse, datasets
from tests.toys import toy_model

GRAPH = ToyBackend().graph(toy_model())
OPS = ["a", "b", "c", "d", "e"]  # `d` has twice the weights and the work of each other one


def test_work_counts_where_nothing_was_timed() -> None:
    gain = gain_by_op(GRAPH, OPS, "latency")
    assert sum(gain.values()) == pytest.approx(1.0)
    assert gain["d"] == pytest.approx(2 * gain["a"])


def test_size_counts_bytes_and_ops_count_alike() -> None:
    assert gain_by_op(GRAPH, OPS, "size")["d"] == pytest.approx(1 / 3)
    assert gain_by_op(GRAPH, OPS, "ops") == dict.fromkeys(OPS, 0.2)


def test_time_counts_as_a_share_of_the_float_model() -> None:
    floats = {"a": 4.0, "b": 1.0, "c": 2.0, "d": 2.0, "e": 1.0}
    int8 = {"a": 1.0, "b": 3.0, "c": 1.0, "d": 1.0, "e": 0.5}
    gain = gain_by_op(GRAPH, OPS, "latency", (floats, int8))
    assert gain == {"a": 0.3, "b": 0.0, "c": 0.1, "d": 0.1, "e": 0.05}


def test_an_op_without_a_time_gets_its_part_by_its_work() -> None:
    floats, int8 = {"a": 2.0, "b": 2.0, "c": 2.0, "e": 4.0}, {"a": 1.0, "b": 1.0, "c": 1.0, "e": 3.0}
    gain = gain_by_op(GRAPH, OPS, "latency", (floats, int8))
    assert gain["a"] == 0.1
    assert gain["d"] == pytest.approx(0.2)


def test_every_convolution_of_the_bundled_model_gets_a_time() -> None:
    backend, model = OpenVINOBackend(), demo.load_model()
    graph = backend.graph(model)
    (found,) = backend.op_seconds([model], {}, demo.calibration_items()[0], graph)
    assert found.keys() == {node.name for node in graph.contractions}
    assert len(kernel_names(graph)) > len(found)


class Spied:
    """Counts the compilations by performance hint."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hints: list[Any] = []
        compile_model = OpenVINOBackend.compile

        def spied(backend: OpenVINOBackend, model: ov.Model, config: Any) -> ov.CompiledModel:
            self.hints.append(dict(config).get("PERFORMANCE_HINT"))
            return compile_model(backend, model, config)

        monkeypatch.setattr(OpenVINOBackend, "compile", spied)


def control(**options: Any) -> md.AccuracyControlResult:
    return md.control_accuracy(
        demo.load_model(), *datasets(), accuracy, max_drop=MAX_DROP, advanced_quantization_parameters=coarse(),
        **{"placement": "table", "allow_slower": True, **options},
    )  # fmt: skip


def test_throughput_is_timed_with_many_inferences_and_scored_as_the_user_compiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spied = Spied(monkeypatch)
    result = control(objective="throughput")
    assert set(spied.hints) == {None, "THROUGHPUT"}
    assert spied.hints.count("THROUGHPUT") >= 2
    assert result.reached


def test_size_quantizes_all_that_can_be_and_may_be_slower() -> None:
    result = control(objective="size", placement=None, allow_slower=False)
    everything = OpenVINOBackend().graph(demo.load_model()).contractions
    assert len(result.plan.int8_ops) + len(result.plan.candidate.precisions) == len(everything)
    assert result.trace.header.settings["objective"] == "size"


def test_fewest_float_ops_where_ops_are_what_counts() -> None:
    assert len(control(objective="ops").plan.candidate.precisions) <= len(control().plan.candidate.precisions)


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(md.ValidationError, match="objective"):
        control(objective="speed")
