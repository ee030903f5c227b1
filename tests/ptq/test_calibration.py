"""What a calibration pass watches, and how much of it is held."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from maxdrop.backends.openvino.observe import observe
from maxdrop.backends.openvino.reductions import Watch
from maxdrop.data.spec import Policy
from maxdrop.data.statistics import Request
from maxdrop.ptq.calibration import calibration_requests
from maxdrop.testing.toy_backend import ToyBackend
from tests.graphs.check import BACKEND
from tests.graphs.layers import const, conv, model, named, normal, parameter, rng
from tests.test_parameter_ranges import two_axes
from tests.toys import toy_model

ROWS = 9
RECTIFIERS = {
    "relu": op.relu,
    "clamp": lambda y: op.clamp(y, 0.0, 6.0),
    "bounds": lambda y: op.minimum(op.maximum(y, const(np.float32(0.0))), const(np.float32(6.0))),
    "signed clamp": lambda y: op.clamp(y, -1.0, 1.0),
}


def images(count: int, batch: int = 1) -> list[Any]:
    return [rng(f"rows{i}").standard_normal((batch, 16, 12, 12)).astype(np.float32) for i in range(count)]


def one_convolution() -> ov.Model:
    x = parameter((-1, 16, 12, 12))
    return model([conv(x, 4, "c")], [x])


def test_only_inexact_statistics_are_in_bfloat16_and_only_where_the_processor_has_it() -> None:
    x = parameter((1, 16, 12, 12))
    first = conv(x, 16, "a")
    chained = model([conv(first, 4, "b")], [x])
    graph = BACKEND.graph(chained)
    requests = [r for r in calibration_requests(graph, ["a", "b"]) if r.value == "a/add"]
    samples = [rng("precision").standard_normal((1, 16, 12, 12)).astype(np.float32)]
    compiled = ov.Core().compile_model(model([first], [x]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = compiled(samples)[0].mean(axis=(0, 2, 3))
    exact, fast = (
        BACKEND.observe(chained, requests, samples, lambda done: None, exact=exact).along("a/add", 1).channel_mean
        for exact in (True, False)
    )
    np.testing.assert_allclose(exact, expected, rtol=1e-4, atol=1e-5)
    has_bfloat16 = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert np.array_equal(exact, fast) is not has_bfloat16


def test_each_axis_that_is_summed_over_is_watched() -> None:
    graph = BACKEND.graph(two_axes())
    requests = calibration_requests(graph, ["by_rows", "by_columns"])
    assert {request.value for request in requests} == {"y"}
    assert sorted(request.channel_axis for request in requests) == [-2, -1]
    assert len({request.key for request in requests}) == 2
    samples = [rng(f"axes{i}").standard_normal((1, 16, 16)).astype(np.float32) for i in range(4)]
    found = BACKEND.observe(two_axes(), requests, samples, lambda done: None)
    seen = np.maximum(np.stack(samples), 0)[:, 0]
    for axis, rest in ((-1, (0, 1)), (-2, (0, 2))):
        np.testing.assert_allclose(found.along("y", axis).channel_mean, seen.mean(axis=rest), rtol=1e-5)
    assert not np.allclose(found.along("y", -1).channel_mean, found.along("y", -2).channel_mean)


def test_readers_of_one_axis_share_their_statistics() -> None:
    x = parameter((1, 4, 16))
    ends = [named(op.matmul(x, const(normal(name, 16, 8)), False, False), name) for name in "ab"]
    requests = calibration_requests(BACKEND.graph(model(ends, [x])), ["a", "b"])
    assert [(r.value, r.key) for r in requests] == [("x", "x")]


def test_outputs_are_watched_only_when_they_are_to_be_quantized() -> None:
    graph, ops = ToyBackend().graph(toy_model()), ["a", "b", "c", "d", "e"]
    plain = {request.value for request in calibration_requests(graph, ops)}
    outputs = {request.value for request in calibration_requests(graph, ops, Policy(quantize_outputs=True))}
    assert outputs - plain == {"sum"}


def test_the_memory_is_shared_among_all_values() -> None:
    graph = ToyBackend().graph(toy_model())
    requests = calibration_requests(graph, ["a", "b", "c", "d", "e"], Policy(statistics_memory_mb=3))
    assert 2.9 * 2**20 < sum(request.most_bytes for request in requests) <= 3 * 2**20


@pytest.mark.parametrize("samples", [1, 4, 64])
def test_no_more_rows_are_held_than_memory_was_given(samples: int) -> None:
    """Whole samples are dropped, evenly, and everything that is not a row stays exact."""
    a_sample = ROWS * 16 * 4
    whole, capped = (
        observe(one_convolution(), [Request("x", 1, most_bytes=most)], images(samples), lambda done: None)["x"]
        for most in (2**30, 4 * a_sample)
    )
    assert whole.rows.nbytes == samples * a_sample
    assert capped.rows.nbytes <= 4 * a_sample
    assert capped.rows.nbytes >= min(samples, 2) * a_sample
    assert np.ptp(np.diff(np.unique(capped.row_sample))) == 0 if samples > 2 else True
    for name in ("sample_min", "sample_max", "channel_min", "channel_max", "channel_mean"):
        np.testing.assert_array_equal(getattr(capped, name), getattr(whole, name))


@pytest.mark.parametrize("batchwise", [True, False])
def test_a_batch_is_several_samples_or_one(batchwise: bool) -> None:
    batches = images(3, batch=4)
    found = observe(one_convolution(), [Request("x", 1, batchwise=batchwise)], batches, lambda done: None)["x"]
    stacked = np.stack(batches)
    axes = (2, 3, 4) if batchwise else (1, 2, 3, 4)
    np.testing.assert_array_equal(found.sample_max, stacked.max(axis=axes).ravel())
    np.testing.assert_allclose(found.channel_mean, stacked.mean(axis=(0, 1, 3, 4)), atol=1e-6)
    assert found.count == (12 if batchwise else 3)
    assert set(found.row_sample.tolist()) == set(range(found.count))


@pytest.mark.parametrize("batch", [1, -1])
def test_what_is_seen_of_a_quantized_model_is_what_it_computes(batch: int) -> None:
    """Watching must not change the result, which in this runtime it does unless the int8 kernels are kept out."""
    x = parameter((batch, 8, 8, 8))
    y = conv(conv(x, 8, "a", kernel=1), 8, "b", kernel=1)
    ends = [np.float32(end) for end in (-4.0, 3.97)]
    y = op.fake_quantize(y, *ends, *ends, 256)
    made = model([conv(y, 8, "c", kernel=1)], [x])
    for node in made.get_ordered_ops():
        if node.get_friendly_name() == "b":
            q = op.fake_quantize(node.input_value(0), *ends, *ends, 256)
            node.input(0).replace_source_output(q.output(0))
    samples = [rng(f"seen{i}").standard_normal((1, 8, 8, 8)).astype(np.float32) for i in range(6)]
    compiled = ov.compile_model(made, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    truth = np.mean([compiled(x)[0].mean(axis=(0, 2, 3)) for x in samples], axis=0)
    bias = normal("c/bias", 8, scale=0.2)
    found = observe(made, [Request(name, 1) for name in "abc"], samples, lambda done: None)
    np.testing.assert_allclose(found["c"].channel_mean + bias, truth, atol=2e-3)


@pytest.mark.parametrize("filler", [0.0, 1.0])
@pytest.mark.parametrize("rectifier", RECTIFIERS)
@pytest.mark.parametrize("shape", [(1, 8, 9, 7), (-1, 8, 9, 7), (-1, 8, -1, -1)])
def test_statistics_are_those_of_the_value(shape: tuple[int, ...], rectifier: str, filler: float) -> None:
    """However the value is computed: padded or not, pooled or reduced, with sizes known or not."""
    x = parameter(shape)
    rectified = named(RECTIFIERS[rectifier](x), "rectified")
    pads = [op.constant(np.array(pad, np.int64)) for pad in ([0, 0, 0, 1], [0, 0, 2, 1])]
    padded = named(op.pad(rectified, *pads, "constant", const(np.float32(filler))), "padded")
    made = model([conv(padded, 4, "c"), conv(rectified, 4, "d")], [x])
    wanted = 1 if shape[0] == 1 else 3
    arrays = [rng(f"value{i}").standard_normal((wanted, 8, 9, 7)).astype(np.float32) for i in range(5)]
    found = observe(made, [Request("padded", 1), Request("rectified", 1)], arrays, lambda done: None)
    low = -1.0 if rectifier == "signed clamp" else 0.0
    inner = np.clip(np.concatenate(arrays), low, np.inf if rectifier == "relu" else -low or 6.0)
    outer = np.pad(inner, ((0, 0), (0, 0), (0, 2), (1, 1)), constant_values=filler)
    for name, exact in (("rectified", inner), ("padded", outer)):
        seen = found[name]
        assert seen.count == 5 * wanted
        np.testing.assert_allclose(seen.sample_max, exact.max(axis=(1, 2, 3)), rtol=1e-6)
        np.testing.assert_allclose(seen.channel_max, exact.max(axis=(0, 2, 3)), rtol=1e-6)
        np.testing.assert_allclose(seen.channel_mean, exact.mean(axis=(0, 2, 3)), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(np.minimum(seen.sample_min, 0.0), np.minimum(exact.min(axis=(1, 2, 3)), 0.0))
        np.testing.assert_allclose(np.minimum(seen.channel_min, 0.0), np.minimum(exact.min(axis=(0, 2, 3)), 0.0))
        positions = {row.tobytes() for row in exact.transpose(0, 2, 3, 1).reshape(-1, 8)}
        assert {row.tobytes() for row in seen.rows} <= positions


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_all_values_of_a_model_with_a_batch_share_outputs(precision: str) -> None:
    """One for the model's inputs, which are not rounded, and one for the rest."""
    x = parameter((-1, 16, 12, 12))
    made = model([conv(conv(x, 8, "c"), 4, "d")], [x])
    watch = Watch(made, [Request("x", 1), Request("c", 1)], {}, precision)
    assert len(watch.outputs) == 2
    assert len(watch.requests) == 2


@pytest.mark.parametrize("batchwise", [True, False])
@pytest.mark.parametrize("signed", [True, False])
def test_samples_of_any_length_and_batch_are_told_apart(signed: bool, batchwise: bool) -> None:
    """Inferences are read many at a time, whether or not their sizes are alike."""
    x = parameter((-1, -1, 16))
    y = x if signed else named(op.relu(x), "y")
    made = model([named(op.matmul(y, const(normal("w", 16, 8)), False, False), "a")], [x])
    sizes = [(1, 3)] * 40 + [(1, 30), (2, 5), (2, 5), (1, 2), (3, 7)]
    samples = [rng(f"sizes{i}").standard_normal((*size, 16)).astype(np.float32) for i, size in enumerate(sizes)]
    value = "x" if signed else "y"
    found = observe(made, [Request(value, -1, batchwise=batchwise)], samples, lambda done: None)[value]
    seen = samples if signed else [np.maximum(sample, 0.0) for sample in samples]
    parts = [part for sample in seen for part in (sample if batchwise else sample.reshape(1, -1, 16))]
    np.testing.assert_array_equal(found.sample_max, [part.max() for part in parts])
    np.testing.assert_array_equal(found.sample_min, [part.min() if signed else 0.0 for part in parts])
    np.testing.assert_allclose(
        found.channel_mean, np.mean([part.reshape(-1, 16).mean(axis=0) for part in parts], axis=0), atol=1e-6
    )
    for number, part in enumerate(parts):
        rows = found.rows[found.row_sample == number]
        assert len(rows)
        assert {row.tobytes() for row in rows} <= {row.tobytes() for row in part.reshape(-1, 16)}


@pytest.mark.parametrize("batch", [1, -1])
def test_reductions_in_bfloat16_are_those_of_the_values(batch: int) -> None:
    x = parameter((batch, 16, 12, 12))
    made = model([conv(op.relu(conv(x, 8, "c")), 4, "d")], [x])
    requests = calibration_requests(BACKEND.graph(made), ["c", "d"])
    exact, fast = (
        observe(made, requests, images(5, abs(batch)), lambda done: None, precision) for precision in ("f32", "bf16")
    )
    step = 2.0**-6  # of bfloat16, and once more for what the convolution read
    for value, statistics in exact.items():
        for name in ("sample_max", "channel_max", "channel_min", "channel_mean", "rows"):
            true = getattr(statistics, name)
            reach = np.abs(true).max()
            np.testing.assert_allclose(getattr(fast[value], name), true, rtol=step, atol=step * reach, err_msg=name)


def test_nothing_is_computed_that_nobody_watches() -> None:
    """What only the model's own outputs need would be computed first, and everything else kept in memory for it."""
    x = parameter((1, 16, 12, 12))
    made = model([conv(conv(x, 8, "c"), 4, "d")], [x])
    Watch(made, [Request("x", 1)], {})
    assert not [node for node in made.get_ordered_ops() if "Convolution" in node.get_type_name()]
