"""Latency of several models by interleaved blocks, so that drift of the machine hits all of them alike."""

import time
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

HINTS = ("LATENCY", "THROUGHPUT")
_BLOCK_SECONDS = 2.0  # a block of a slow model stops here
_LEAST_RUNS = 5


def measure(
    models: Mapping[str, Path],
    inputs: Sequence[Any],
    config: Mapping[str, Any],
    hint: str,
    blocks: int,
    runs: int,
    seed: int,
) -> dict[str, list[float]]:
    """Milliseconds per inference of every model, one value per block.

    For LATENCY a value is the median over the block; for THROUGHPUT it is the time of the block divided by
    its inferences, with as many requests in flight as the runtime asks for.
    """
    core = ov.Core()
    compiled = {
        name: core.compile_model(core.read_model(path), "CPU", {**config, "PERFORMANCE_HINT": hint})
        for name, path in models.items()
    }
    block = _latency_block if hint == "LATENCY" else _throughput_block
    for each in compiled.values():
        block(each, inputs, _LEAST_RUNS)
    random = np.random.default_rng(seed)
    values: dict[str, list[float]] = {name: [] for name in compiled}
    for _ in range(blocks):
        for name in random.permutation(list(compiled)).tolist():
            values[name].append(block(compiled[name], inputs, runs))
    return values


def ratio_interval(
    numerator: Sequence[float], denominator: Sequence[float], seed: int = 0, draws: int = 2000
) -> tuple[float, float, float]:
    """Median ratio of paired blocks, and the ends of its 95 % bootstrap interval.

    Blocks of one cycle run within seconds, so a change of the machine's speed leaves their ratio alone.
    """
    ratios = np.asarray(numerator) / np.asarray(denominator)
    picks = np.random.default_rng(seed).integers(0, len(ratios), (draws, len(ratios)))
    low, high = np.percentile(np.median(ratios[picks], axis=1), [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def _latency_block(compiled: ov.CompiledModel, inputs: Sequence[Any], runs: int) -> float:
    request = compiled.create_infer_request()
    seconds: list[float] = []
    for sample in cycle(inputs):
        start = time.perf_counter()
        request.infer(sample)
        seconds.append(time.perf_counter() - start)
        if len(seconds) >= runs or (sum(seconds) > _BLOCK_SECONDS and len(seconds) >= _LEAST_RUNS):
            break
    return float(np.median(seconds)) * 1e3


def _throughput_block(compiled: ov.CompiledModel, inputs: Sequence[Any], runs: int) -> float:
    queue = ov.AsyncInferQueue(compiled, 0)
    done, start = 0, time.perf_counter()
    for sample in cycle(inputs):
        queue.start_async(sample)
        done += 1
        if done >= runs or (time.perf_counter() - start > _BLOCK_SECONDS and done >= _LEAST_RUNS):
            break
    queue.wait_all()
    return (time.perf_counter() - start) / done * 1e3
