"""Time per inference by interleaved blocks, so that a drifting machine hurts all models alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from maxdrop.backends.openvino.feed import infer

_BLOCK_SECONDS = 0.02
_MOST_RUNS = 50


def block_latencies(compiled: Sequence[ov.CompiledModel], sample: Any, blocks: int) -> NDArray[np.float64]:
    """Seconds per inference, float64 (models, blocks).

    Models are run as they were compiled: those for throughput with all their streams busy, the others one inference
    after the other.

    Args:
        compiled: the models to compare; they take turns, block by block.
        sample: what they read.
        blocks: how many blocks each model gets.
    """
    runners = [
        _in_flight(model, sample) if _for_throughput(model) else _one_by_one(model, sample) for model in compiled
    ]
    times = np.empty((len(runners), blocks))
    for block in range(blocks):
        for i, run in enumerate(runners):
            times[i, block] = run()
    return times


def _for_throughput(compiled: ov.CompiledModel) -> bool:
    return str(compiled.get_property("PERFORMANCE_HINT")).endswith("THROUGHPUT")


def _one_by_one(compiled: ov.CompiledModel, sample: Any) -> Callable[[], float]:
    """A function that runs a block and returns the median."""
    request = compiled.create_infer_request()
    for _ in range(3):  # the first runs allocate
        infer(request, sample, 0)
    repeats = _repeats(_seconds(request))
    return lambda: float(np.median([_seconds(request) for _ in range(repeats)]))


def _in_flight(compiled: ov.CompiledModel, sample: Any) -> Callable[[], float]:
    """A function that runs a block with all streams busy and returns the mean."""
    queue = ov.AsyncInferQueue(compiled, compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    for request in queue:
        infer(request, sample, 0)
    repeats = _repeats(_seconds(queue[0])) * len(queue)

    def run() -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            queue.start_async()
        queue.wait_all()
        return (time.perf_counter() - start) / repeats

    return run


def _repeats(seconds: float) -> int:
    return max(1, min(_MOST_RUNS, int(_BLOCK_SECONDS / max(seconds, 1e-6))))


def _seconds(request: ov.InferRequest) -> float:
    start = time.perf_counter()
    request.infer()
    return time.perf_counter() - start
