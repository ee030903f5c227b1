"""Samples of the user's dataset to what an infer request takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov

from maxdrop.backends.openvino.messages import last_line
from maxdrop.errors import ValidationError

RESET_STATE = "nncf_reset_state"
"""A dict sample may hold this key; when true, the state of a stateful model is reset before the sample."""


def infer(request: ov.InferRequest, sample: Any, number: int, extra: Mapping[str, Any] | None = None) -> None:
    """Run one sample.

    Args:
        request: to run on.
        sample: an array for a model with one input; a tuple or list in the order of the inputs; or a dict by
            input name or number.
        number: position in the dataset, for the error message.
        extra: further inputs by name.

    Raises:
        ValidationError: when the sample does not fit the model's inputs.
    """
    inputs = request.get_compiled_model().inputs
    own = [port for port in inputs if not extra or not (port.get_names() & set(extra))]
    if isinstance(sample, Mapping) and sample.get(RESET_STATE):
        request.reset_state()
    feeds = {**keyed_inputs(sample, own), **(extra or {})}
    try:
        request.infer(feeds)
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        message = (
            f"every sample must fit the model's inputs ({_signature(own)}), but sample {number} is "
            f"{describe(sample)}; change the dataset's transform function. The runtime says: {last_line(error)}"
        )
        raise ValidationError(message) from error


def keyed_inputs(sample: Any, inputs: Sequence[Any]) -> dict[Any, Any]:
    """The arrays of a sample by input name or number."""
    if isinstance(sample, Mapping):
        return {key: as_array(x) for key, x in sample.items() if key != RESET_STATE}
    many = isinstance(sample, tuple) or (isinstance(sample, list) and len(inputs) > 1)
    parts = list(sample) if many else [sample]
    return {i: as_array(x) for i, x in enumerate(parts)}


def as_array(x: Any) -> Any:
    """`x` as something OpenVINO takes: tensors stay, everything else becomes a numpy array."""
    return x if isinstance(x, ov.Tensor) else np.asarray(x)


def _signature(inputs: Sequence[Any]) -> str:
    parts = []
    for port in inputs:
        name = next(iter(sorted(port.get_names())), port.get_node().get_friendly_name())
        parts.append(f"{name}: {port.get_element_type().to_string()}{port.get_partial_shape()}")
    return ", ".join(parts)


def describe(sample: Any) -> str:
    """Types and shapes of a sample, short enough for an error message."""
    if isinstance(sample, Mapping):
        return "{" + ", ".join(f"{key}: {describe(x)}" for key, x in sample.items()) + "}"
    if isinstance(sample, (tuple, list)):
        return f"{type(sample).__name__} of " + ", ".join(describe(x) for x in sample[:8])
    shape = getattr(sample, "shape", None)
    dtype = getattr(sample, "dtype", None)
    return f"{type(sample).__name__}{list(shape) if shape is not None else ''} {dtype or ''}".strip()
