"""The phases that every flow begins with: view, policy, calibration."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from maxdrop.backends.registry import open_model
from maxdrop.data.graph import Graph, OpKind
from maxdrop.data.protocols import Backend
from maxdrop.data.spec import Policy
from maxdrop.data.statistics import Statistics
from maxdrop.dataset import Dataset
from maxdrop.errors import UnsupportedModelError, ValidationError
from maxdrop.options import AdvancedQuantizationParameters, TargetDevice
from maxdrop.progress import ProgressReporter
from maxdrop.ptq.build import Planner
from maxdrop.ptq.calibration import calibration_requests
from maxdrop.ptq.payoff import choose_int8
from maxdrop.resolve import QuantizeOptions, check_options, resolve_policy


@dataclass(frozen=True)
class Prepared:
    """The float model, ready for any plan."""

    backend: Backend[Any]
    model: Any
    graph: Graph
    policy: Policy


def open_and_resolve(model: Any, options: QuantizeOptions) -> Prepared:
    """Open the model and resolve the options against it.

    Raises:
        UnsupportedBackendError: no backend reads the model.
        UnsupportedModelError: the model is quantized already.
        ValidationError, ParameterNotSupportedError: an option is wrong or not honoured.
    """
    check_options(options, options.advanced or AdvancedQuantizationParameters())
    backend, opened = open_model(model, TargetDevice(options.target_device).value)
    graph = backend.graph(opened)
    quantized = [node.name for node in graph if node.kind is OpKind.FAKE_QUANTIZE]
    if quantized:
        message = (
            f"the model must be a float model, but it already holds {len(quantized)} FakeQuantize ops "
            f"(first: {quantized[0]}); pass the model it was made from"
        )
        raise UnsupportedModelError(message)
    return Prepared(backend, opened, graph, resolve_policy(graph, options, backend.default_reduced_range()))


def calibrate(
    prepared: Prepared,
    dataset: Dataset,
    subset_size: int,
    progress: ProgressReporter,
    cache: Path | None = None,
) -> Statistics:
    """Statistics of every value that some plan could need, from the cache if it holds them.

    Raises:
        ValidationError: the dataset is empty, or a sample does not fit the model.
    """
    if cache is not None and cache.exists():
        found = Statistics.load(cache)
        if found.graph == prepared.graph.fingerprint:
            return found
    seen = 0

    def count(items: Iterator[Any]) -> Iterator[Any]:
        nonlocal seen
        for item in items:
            seen += 1
            yield item

    length = dataset.get_length()
    total = subset_size if length is None else min(subset_size, length)
    samples = count(islice(iter(dataset.get_inference_data()), subset_size))
    with progress.stage("calibrating", total) as tick:
        requests = calibration_requests(prepared.graph, choose_int8(prepared.graph, prepared.policy)[0])
        statistics = prepared.backend.observe(prepared.model, requests, samples, tick)
    if seen == 0:
        message = (
            "the calibration dataset must hold at least one sample, but iterating it gave none; "
            "a generator can be iterated only once: pass a list, or a function that returns a fresh generator"
        )
        raise ValidationError(message)
    if cache is not None:
        statistics.save(cache)
    return statistics


def make_planner(prepared: Prepared, statistics: Statistics) -> Planner:
    """The planner; warns when no op is worth int8."""
    planner = Planner(prepared.graph, prepared.policy, statistics)
    if not planner.int8_ops:
        warnings.warn(
            "nothing in this model is worth int8 on this target, so the result is the float model; "
            "see `float_ops` of the plan for the reasons",
            stacklevel=4,
        )
    return planner
