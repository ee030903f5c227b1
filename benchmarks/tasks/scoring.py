"""Validation functions that more than one task uses."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import openvino as ov

from benchmarks.task import Validate

Array = np.ndarray[Any, Any]


def top1(compiled: ov.CompiledModel, items: Iterable[tuple[Array, int]]) -> tuple[float, list[float]]:
    """Share of items whose largest logit is at the label."""
    values = [float(compiled(x)[0].argmax() == label) for x, label in items]
    return float(np.mean(values)), values


def fidelity(output: int = 0) -> Validate:
    """A metric without labels: 1 - NMSE against the float output that comes with every item."""

    def validate(compiled: ov.CompiledModel, items: Iterable[Any]) -> tuple[float, list[float]]:
        values = [1.0 - nmse(expected, compiled(x)[output]) for x, expected in items]
        return float(np.mean(values)), values

    return validate


def nmse(expected: Array, actual: Array) -> float:
    """Squared error over squared signal."""
    return float(np.sum((expected - actual) ** 2) / max(np.sum(expected**2), 1e-30))
