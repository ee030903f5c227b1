"""Running many samples through one model, results in the order of the samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import openvino as ov
from numpy.typing import NDArray

from maxdrop.backends.openvino.feed import infer, keyed_inputs

Outputs = list[NDArray[Any]]

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
    queue = ov.AsyncInferQueue(compiled)
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


def _read(request: Any, outputs: Sequence[int]) -> Outputs:
    return [request.get_output_tensor(i).data.copy() for i in outputs]
