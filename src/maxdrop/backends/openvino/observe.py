"""The calibration pass: reductions inside the graph, so that activations are not copied out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import openvino as ov

from maxdrop.backends.openvino.collector import Collector
from maxdrop.backends.openvino.reductions import Watch
from maxdrop.backends.openvino.shapes import known_sizes
from maxdrop.backends.openvino.streaming import Outputs, joined, run_in_order, run_overlapped
from maxdrop.data.statistics import Request, TensorStatistics


def observe(
    model: ov.Model,
    requests: Sequence[Request],
    samples: Iterable[Any],
    progress: Callable[[int], None],
    precision: str = "f32",
) -> dict[str, TensorStatistics]:
    """Run every sample once and reduce the requested values.

    Values of unknown rank, and values that no sample reaches, are left out.

    Args:
        model: the float model; stays as it is.
        requests: what to watch.
        samples: inputs; see `feed.infer` for their forms.
        progress: called after each sample with the number done.
        precision: in which convolutions and matrix products run.
    """
    source = iter(samples)
    first = next(source, None)
    if first is None:
        return {}
    watched = model.clone()
    watch = Watch(watched, requests, known_sizes(model, first), precision)
    collectors = [Collector(request) for request in watch.requests]
    # A stateful model's samples depend on the ones before them, so they run one after another.
    run = run_overlapped
    if watch.simulated:
        run = partial(run_in_order, simulated=True)
    elif watched.get_sinks():
        run = run_in_order
    ticking = _ticking(run(watched, chain([first], source), watch.outputs, precision), progress)
    for count, found in joined(ticking):
        for collector, reduced in zip(collectors, watch.read(found), strict=True):
            collector.add(reduced, count)
    return {c.request.key: c.result() for c in collectors if c.count}


def _ticking(found: Iterable[Outputs], progress: Callable[[int], None]) -> Iterator[Outputs]:
    for number, outputs in enumerate(found):
        yield outputs
        progress(number + 1)
