"""Latency by interleaved blocks, so that a drifting machine hurts all models alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov

from maxdrop.backends.openvino.feed import infer

_BLOCKS = 7
_BLOCK_SECONDS = 0.05


def median_latencies(compiled: Sequence[ov.CompiledModel], sample: Any) -> list[float]:
    """Median seconds of one inference of each compiled model on `sample`."""
    requests = [model.create_infer_request() for model in compiled]
    repeats = []
    for request in requests:
        infer(request, sample, 0)
        start = time.perf_counter()
        infer(request, sample, 0)
        repeats.append(max(1, min(50, int(_BLOCK_SECONDS / max(time.perf_counter() - start, 1e-6)))))
    times: list[list[float]] = [[] for _ in requests]
    for _ in range(_BLOCKS):
        for request, count, taken in zip(requests, repeats, times, strict=True):
            for _ in range(count):
                start = time.perf_counter()
                request.infer()
                taken.append(time.perf_counter() - start)
    return [float(np.median(taken)) for taken in times]
