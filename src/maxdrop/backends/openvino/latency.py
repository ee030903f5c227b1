"""Time per inference by interleaved blocks, so that a drifting machine hurts all models alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from maxdrop.backends.openvino.feed import infer, keyed_inputs

_BLOCK_SECONDS = 0.02
_MOST_RUNS = 50
_MOST_SAMPLES = 4
"""Of different sizes: few, as a block grows with them."""


def block_latencies(compiled: Sequence[ov.CompiledModel], samples: Sequence[Any], blocks: int) -> NDArray[np.float64]:
    """Seconds per inference, float64 (models, blocks).

    Models are run as they were compiled: those for throughput with all their streams busy, the others one inference
    after the other. Samples of different sizes take turns within a block, because the runtime does some work again
    whenever a size changes; of samples of one size, one is enough.

    Args:
        compiled: the models to compare; they take turns, block by block.
        samples: what they read.
        blocks: how many blocks each model gets.
    """
    differing = _of_different_sizes(samples, compiled[0].inputs)
    runners = [
        _in_flight(model, differing) if _for_throughput(model) else _one_by_one(model, differing) for model in compiled
    ]
    times = np.empty((len(runners), blocks))
    for block in range(blocks):
        for i, run in enumerate(runners):
            times[i, block] = run()
    return times


def _of_different_sizes(samples: Sequence[Any], ports: Sequence[Any]) -> list[Any]:
    """The first samples whose inputs differ in size; at least one."""
    found: dict[Any, Any] = {}
    for sample in samples:
        sizes = tuple((key, tuple(x.shape)) for key, x in keyed_inputs(sample, ports).items())
        found.setdefault(sizes, sample)
    return list(found.values())[:_MOST_SAMPLES]


def _for_throughput(compiled: ov.CompiledModel) -> bool:
    return str(compiled.get_property("PERFORMANCE_HINT")).endswith("THROUGHPUT")


def _one_by_one(compiled: ov.CompiledModel, samples: Sequence[Any]) -> Callable[[], float]:
    """A function that runs a block and returns the median inference of a sample, averaged over the samples."""
    request = compiled.create_infer_request()
    for _ in range(3):  # the first runs allocate
        for number, sample in enumerate(samples):
            infer(request, sample, number)
    inputs = [_tensors(compiled, sample) for sample in samples] if len(samples) > 1 else [{}]
    repeats = _repeats(sum(_seconds(request, each) for each in inputs))
    return lambda: float(np.mean(np.median([[_seconds(request, i) for i in inputs] for _ in range(repeats)], axis=0)))


def _in_flight(compiled: ov.CompiledModel, samples: Sequence[Any]) -> Callable[[], float]:
    """A function that runs a block with all streams busy and returns the mean."""
    queue = ov.AsyncInferQueue(compiled, compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    for request in queue:
        for number, sample in enumerate(samples):
            infer(request, sample, number)
    inputs = [_tensors(compiled, sample) for sample in samples] if len(samples) > 1 else [{}]
    repeats = _repeats(sum(_seconds(queue[0], each) for each in inputs)) * len(queue)

    def run() -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            for each in inputs:
                queue.start_async(each)
        queue.wait_all()
        return (time.perf_counter() - start) / (repeats * len(inputs))

    return run


def _tensors(compiled: ov.CompiledModel, sample: Any) -> dict[Any, ov.Tensor]:
    """The inputs of a sample, of the types that the model reads."""
    found = {}
    for key, value in keyed_inputs(sample, compiled.inputs).items():
        port = compiled.input(key)
        is_tensor = isinstance(value, ov.Tensor)
        found[port] = value if is_tensor else ov.Tensor(np.ascontiguousarray(value, port.element_type.to_dtype()))
    return found


def _repeats(seconds: float) -> int:
    return max(1, min(_MOST_RUNS, int(_BLOCK_SECONDS / max(seconds, 1e-6))))


def _seconds(request: ov.InferRequest, inputs: Mapping[Any, ov.Tensor]) -> float:
    for port, tensor in inputs.items():
        request.set_tensor(port, tensor)
    start = time.perf_counter()
    request.infer()
    return time.perf_counter() - start
