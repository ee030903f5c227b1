"""Running many samples through one model, results in the order of the samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from maxdrop.backends.openvino.feed import infer, keyed_inputs

Outputs = list[NDArray[Any]]

_JOINED_INFERENCES = 32
"""Inferences that are read together, because numpy's overhead would be most of the work for one."""

_JOINED_BYTES = 2**18
"""Largest output that is copied for it."""

_WAITING_BYTES = 32 * 2**20
"""Outputs that wait for others: beyond this the overhead is little, whatever their number."""

_SIMULATED = {"LP_TRANSFORMS_MODE": "NO"}


def run_in_order(
    model: ov.Model, samples: Iterable[Any], outputs: Sequence[int], precision: str = "f32", *, simulated: bool = False
) -> Iterator[Outputs]:
    """One sample after another.

    Args:
        model: to compile and run.
        samples: see `feed.infer` for their forms.
        outputs: numbers of the outputs to return.
        precision: of the float ops.
        simulated: compute FakeQuantize in float instead of turning it into int8 kernels.
    """
    config = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY", **(_SIMULATED if simulated else {})}
    request = ov.Core().compile_model(model, "CPU", config).create_infer_request()
    for number, sample in enumerate(samples):
        infer(request, sample, number)
        yield _read(request, outputs)


def run_overlapped(
    model: ov.Model, samples: Iterable[Any], outputs: Sequence[int], precision: str = "f32"
) -> Iterator[Outputs]:
    """Several samples at a time, which uses the processor better; same results as `run_in_order`."""
    config = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "THROUGHPUT"}
    compiled = ov.Core().compile_model(model, "CPU", config)
    finished: dict[int, Outputs] = {}
    # With as many requests waiting as are running, no stream is idle while results are read.
    queue = ov.AsyncInferQueue(compiled, 2 * compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    queue.set_callback(lambda request, number: finished.__setitem__(number, _read(request, outputs)))
    turn = 0
    for number, sample in enumerate(samples):
        try:
            feeds = keyed_inputs(sample, compiled.inputs)
            # The sample may be gone before its turn comes, so the request keeps a copy.
            queue.start_async(feeds, number, share_inputs=False)
        except (RuntimeError, TypeError, ValueError, KeyError):
            infer(compiled.create_infer_request(), sample, number)  # says what is wrong with the sample
            raise
        while turn in finished:
            yield finished.pop(turn)
            turn += 1
    queue.wait_all()
    while turn in finished:
        yield finished.pop(turn)
        turn += 1


def joined(found: Iterable[Outputs]) -> Iterator[tuple[int, list[Outputs]]]:
    """Neighbouring inferences, so many at a time, with their number.

    Of each output there is one array, joined along the first axis; or one of each inference where that is large or
    other sizes differ. Inferences whose first sizes differ are not taken together.
    """
    waiting: list[Outputs] = []
    held = 0
    for outputs in found:
        size = sum(output.nbytes for output in outputs)
        full = len(waiting) == _JOINED_INFERENCES or held + size > _WAITING_BYTES
        if waiting and (full or any(len(a) != len(b) for a, b in zip(waiting[0], outputs, strict=True))):
            yield len(waiting), _join(waiting)
            waiting, held = [], 0
        waiting.append(outputs)
        held += size
    if waiting:
        yield len(waiting), _join(waiting)


def _join(waiting: list[Outputs]) -> list[Outputs]:
    return [[np.concatenate(parts)] if _can_join(parts) else list(parts) for parts in zip(*waiting, strict=True)]


def _can_join(parts: Sequence[NDArray[Any]]) -> bool:
    return parts[0].nbytes <= _JOINED_BYTES and all(part.shape == parts[0].shape for part in parts)


def _read(request: Any, outputs: Sequence[int]) -> Outputs:
    return [request.get_output_tensor(i).data.copy() for i in outputs]
