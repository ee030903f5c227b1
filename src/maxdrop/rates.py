"""How fast the float model is, measured with a few inferences, so that the cost of a search can be forecast."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from maxdrop.data.protocols import Backend
from maxdrop.dataset import Dataset
from maxdrop.search.forecast import Rates

_BLOCKS = 3
"""Blocks that time the model; more than one, so that a hiccup does not count."""


def measure_rates(
    backend: Backend[Any],
    model: Any,
    config: Mapping[str, Any],
    calibration: Dataset,
    score: Callable[[Any], Any] | None,
    scored_items: int,
) -> Rates:
    """Time a compilation, some inferences and some validation items.

    Args:
        backend: of the model.
        model: the float model.
        config: the configuration in which models are timed.
        calibration: its first sample is taken and run.
        score: calls the user's function with a compiled model and a few items; None leaves its time unknown, and so
            does a function that cannot score so few.
        scored_items: number of these items.
    """
    start = time.perf_counter()
    sample = next(iter(calibration.get_inference_data([0])))
    fetched = time.perf_counter()
    compiled = backend.compile(model, config)
    compiled_at = time.perf_counter()
    blocks = backend.latency([model], config, [sample], _BLOCKS)
    timed = time.perf_counter()
    compiling = compiled_at - fetched
    return Rates(
        forward=float(np.median(blocks)),
        compiling=compiling,
        sample=fetched - start,
        block=max(timed - compiled_at - compiling, 0.0) / _BLOCKS,
        item=None if score is None else _seconds_per_item(score, compiled, scored_items),
    )


def _seconds_per_item(score: Callable[[Any], Any], compiled: Any, items: int) -> float | None:
    start = time.perf_counter()
    try:
        score(compiled)
    except Exception:  # the user's function may rightly refuse a subset
        return None
    return (time.perf_counter() - start) / items
