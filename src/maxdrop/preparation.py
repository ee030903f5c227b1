"""The phases that every flow begins with: view, policy, calibration, and what pays."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from maxdrop.backends.registry import open_model
from maxdrop.data.graph import Graph, OpKind
from maxdrop.data.protocols import Backend
from maxdrop.data.spec import Policy
from maxdrop.data.statistics import Statistics
from maxdrop.dataset import Dataset
from maxdrop.errors import UnsupportedModelError, ValidationError
from maxdrop.options import AdvancedQuantizationParameters, TargetDevice
from maxdrop.payoff_cache import cached_payoff
from maxdrop.progress import ProgressReporter
from maxdrop.ptq.build import Planner
from maxdrop.ptq.calibration import calibration_requests
from maxdrop.ptq.payoff import choose_int8
from maxdrop.ptq.sequential_bias import SAMPLES, BiasTable, measure_shifts
from maxdrop.resolve import QuantizeOptions, check_options, resolve_policy
from maxdrop.search.payoff import Payoff

TIMED_SAMPLES = 8
"""Calibration samples among which different sizes are looked for."""


@dataclass(frozen=True)
class Prepared:
    """The float model, ready for any plan."""

    backend: Backend[Any]
    model: Any
    graph: Graph
    policy: Policy


@dataclass(frozen=True)
class Calibration:
    """What one pass over the calibration data gave.

    Attributes:
        statistics: of every value that some plan could need.
        samples: the first few, to time the model with.
    """

    statistics: Statistics
    samples: tuple[Any, ...]


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
    policy = resolve_policy(graph, options, backend.default_reduced_range())
    if policy.placement == "measured" and not backend.runs_target:
        policy = policy.model_copy(update={"placement": "table"})  # what is not here cannot be measured
    return Prepared(backend, opened, graph, policy)


def calibrate(
    prepared: Prepared, dataset: Dataset, subset_size: int, progress: ProgressReporter, cache: Path | None = None
) -> Calibration:
    """Statistics of every value that some plan could need, from the cache if it holds them.

    Raises:
        ValidationError: the dataset is empty, or a sample does not fit the model.
    """
    if cache is not None and cache.exists():
        found = Statistics.load(cache)
        if found.graph == prepared.graph.fingerprint:
            return Calibration(found, tuple(islice(iter(dataset.get_inference_data()), TIMED_SAMPLES)))
    first: list[Any] = []

    def noting_the_first(items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            if len(first) < TIMED_SAMPLES:
                first.append(item)
            yield item

    length = dataset.get_length()
    total = subset_size if length is None else min(subset_size, length)
    samples = noting_the_first(islice(iter(dataset.get_inference_data()), subset_size))
    with progress.stage("calibrating", total) as tick:
        int8_ops, _ = choose_int8(prepared.graph, prepared.policy)
        requests = calibration_requests(prepared.graph, int8_ops, prepared.policy)
        statistics = prepared.backend.observe(prepared.model, requests, samples, tick, exact=False)
    if not first:
        message = (
            "the calibration dataset must hold at least one sample, but iterating it gave none; "
            "a generator can be iterated only once: pass a list, or a function that returns a fresh generator"
        )
        raise ValidationError(message)
    if cache is not None:
        statistics.save(cache)
    return Calibration(statistics, tuple(first))


def find_payoff(
    prepared: Prepared, planner: Planner, samples: Sequence[Any], config: Mapping[str, Any], progress: ProgressReporter
) -> Payoff:
    """What int8 was measured to pay on; nothing is measured unless the policy says so."""
    if prepared.policy.placement != "measured" or not planner.int8_ops:
        return Payoff(variants=(), unprofitable={})
    with progress.stage("measuring what pays"):
        return cached_payoff(planner, prepared.backend, prepared.model, config, samples)


def keep_what_pays(planner: Planner, payoff: Payoff) -> Planner:
    """The planner that does what pays, and no more; warns when no op is worth int8."""
    found = planner.without(payoff.unprofitable) if payoff.unprofitable else planner
    if payoff.integer_sums:
        found = found.with_policy(found.policy.model_copy(update={"integer_sums": True}))
    if not found.int8_ops:
        warnings.warn(
            "nothing in this model is worth int8 on this target, so the result is the float model; "
            "see `float_ops` of the plan for the reasons",
            stacklevel=4,
        )
    return found


def measure_biases(
    prepared: Prepared, planner: Planner, dataset: Dataset, subset_size: int, progress: ProgressReporter
) -> BiasTable:
    """What the biases need by measurement; empty where the closed form is to do, or does better.

    Raises:
        ValidationError: the dataset cannot be gone through a second time.
    """
    if not planner.policy.sequential_bias_correction or not planner.int8_ops:
        return BiasTable(shifts={})
    length = dataset.get_length()
    count = subset_size if length is None else min(length, subset_size)
    indices = sorted({int(i) for i in np.linspace(0, count - 1, min(SAMPLES, count))})
    few = (
        dataset.get_inference_data(indices)
        if length is not None
        else islice(iter(dataset.get_inference_data()), SAMPLES)
    )
    samples = list(few)
    if not samples:
        message = (
            "`fast_bias_correction=False` goes through the calibration data a second time, but iterating it again gave "
            "nothing; pass a list, or a function that returns a fresh generator"
        )
        raise ValidationError(message)
    with progress.stage("correcting biases") as tick:
        shifts = measure_shifts(planner, prepared.backend, prepared.model, samples, tick)
    return BiasTable.of(shifts)
