from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset13 as opset

from maxdrop.backends.openvino.backend import OpenVINOBackend
from maxdrop.errors import ValidationError
from maxdrop.testing.backend_suite import BackendCase, BackendSuite
from maxdrop.testing.toy_backend import ToyBackend
from tests.toys import toy_model, toy_samples


class TestToyBackend(BackendSuite):
    def make_case(self) -> BackendCase:
        return BackendCase(ToyBackend(), toy_model(), toy_samples(), lambda compiled, sample: list(compiled(sample)))


class TestOpenVINOBackend(BackendSuite):
    def make_case(self) -> BackendCase:
        return BackendCase(
            OpenVINOBackend(), openvino_model(), openvino_samples(), _run, {"INFERENCE_PRECISION_HINT": "f32"}
        )


class TestOpenVINOBackendOnUnusualOps(BackendSuite):
    def make_case(self) -> BackendCase:
        samples = [sample[:, :, :6] for sample in openvino_samples()]
        return BackendCase(OpenVINOBackend(), unusual_model(), samples, _run, {"INFERENCE_PRECISION_HINT": "f32"})


@pytest.mark.parametrize("hint", ["LATENCY", "THROUGHPUT"])
def test_samples_of_different_sizes_are_timed_in_turns(hint: str) -> None:
    x = opset.parameter([-1, 8, -1], np.float32, name="x")
    model = ov.Model([opset.relu(x)], [x])
    backend, config = OpenVINOBackend(), {"PERFORMANCE_HINT": hint}
    sizes = [(1, 8, 5), (1, 8, 5), (1, 8, 9), (2, 8, 5)]
    samples = [np.ones(size, np.float64) for size in sizes]  # of another type than the model reads
    seconds = backend.latency([model, model], config, samples, 3)
    assert seconds.shape == (2, 3)
    assert (seconds > 0.0).all()
    with pytest.raises(ValidationError, match=r"sample 1 is .*\[1, 7, 5\]"):
        backend.latency([model], config, [samples[0], samples[1], np.ones((1, 7, 5))], 1)


def openvino_model() -> ov.Model:
    """Convolutions with and without bias, one that reads another directly, a branch, and a matrix product."""
    rng = np.random.default_rng(0)

    def constant(name: str, *shape: int) -> Any:
        return opset.constant(rng.normal(0.0, 0.1, shape).astype(np.float32), name=f"{name}_constant")

    def convolution(source: Any, name: str, channels: int) -> Any:
        ones = [1, 1]
        return opset.convolution(source, constant(name, 16, channels, 3, 3), ones, ones, ones, ones, name=name)

    x = opset.parameter([1, 8, 8, 8], np.float32, name="x")
    first = opset.add(convolution(x, "first", 8), constant("first_bias", 1, 16, 1, 1), name="first_bias")
    relu = opset.relu(first, name="relu")
    direct = convolution(convolution(relu, "bare", 16), "direct", 16)
    joined = opset.relu(opset.add(direct, relu, name="join"), name="join_relu")
    axes = opset.constant(np.array([2, 3], np.int64), name="axes")
    flat = opset.reduce_mean(joined, axes, False, name="pool")
    product = opset.matmul(flat, constant("product", 10, 16), False, True, name="product")
    return ov.Model([opset.result(product, name="y")], [x], "small")


def unusual_model() -> ov.Model:
    """Unknown sizes, float16 weights, groups, a transposed convolution, max-pooling, a Concat, a 3-d product."""
    rng = np.random.default_rng(2)
    ones, pads = [1, 1], [1, 1]

    def half(name: str, *shape: int) -> Any:
        stored = opset.constant(rng.normal(0.0, 0.2, shape).astype(np.float16), name=f"{name}_half")
        return opset.convert(stored, "f32", name=f"{name}_weight")

    x = opset.parameter([-1, 8, -1, -1], np.float32, name="x")
    depthwise = opset.group_convolution(x, half("depthwise", 8, 1, 1, 3, 3), ones, pads, pads, ones, name="depthwise")
    grouped = opset.group_convolution(depthwise, half("grouped", 2, 4, 4, 3, 3), ones, pads, pads, ones, name="grouped")
    dense = opset.convolution(x, half("dense", 8, 8, 3, 3), ones, pads, pads, ones, name="dense")
    both = opset.concat([opset.relu(grouped, name="relu"), dense], 1, name="both")
    pooled = opset.max_pool(both, [2, 2], ones, [0, 0], [0, 0], [2, 2], name="pooled")
    wide = opset.convolution_backprop_data(
        pooled.output(0), half("up", 16, 8, 2, 2), [2, 2], pads_begin=[0, 0], pads_end=[0, 0], dilations=ones, name="up"
    )
    order = opset.constant(np.array([0, 2, 3, 1], np.int64), name="order")
    last = opset.transpose(wide, order, name="last")
    product = opset.matmul(last, half("product", 8, 5), False, False, name="product")
    return ov.Model([opset.result(product, name="y")], [x], "unusual")


def openvino_samples() -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    return [rng.normal(0.2, 1.0, (1, 8, 8, 8)).astype(np.float32) for _ in range(8)]


def _run(compiled: Any, sample: Any) -> list[NDArray[Any]]:
    found = compiled(sample)
    return [np.array(found[port]) for port in compiled.outputs]
