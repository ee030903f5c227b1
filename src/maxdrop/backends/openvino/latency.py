"""Latency by interleaved blocks, so that a drifting machine hurts all models alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from maxdrop.backends.openvino.feed import infer

_BLOCK_SECONDS = 0.02


def block_latencies(compiled: Sequence[ov.CompiledModel], sample: Any, blocks: int) -> NDArray[np.float64]:
    """Seconds of one inference, float64 (models, blocks): the median of each block of runs.

    Args:
        compiled: the models to compare; they take turns, block by block.
        sample: what they read.
        blocks: how many blocks each model gets.
    """
    requests = [model.create_infer_request() for model in compiled]
    repeats = [_repeats(request, sample) for request in requests]
    times = np.empty((len(requests), blocks))
    for block in range(blocks):
        for i, (request, count) in enumerate(zip(requests, repeats, strict=True)):
            times[i, block] = np.median([_seconds(request) for _ in range(count)])
    return times


def _repeats(request: ov.InferRequest, sample: Any) -> int:
    for _ in range(3):  # the first runs allocate
        infer(request, sample, 0)
    return max(1, min(50, int(_BLOCK_SECONDS / max(_seconds(request), 1e-6))))


def _seconds(request: ov.InferRequest) -> float:
    start = time.perf_counter()
    request.infer()
    return time.perf_counter() - start
