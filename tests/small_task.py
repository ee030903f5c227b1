"""A small accuracy-control task on the bundled model: a search that takes seconds and is not trivial."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import openvino as ov

import maxdrop as md
from maxdrop import demo
from maxdrop.options import RangeEstimatorParametersSet

MAX_DROP = 0.015


def coarse() -> md.AdvancedQuantizationParameters:
    """Quantization that is so simple that the search has work to do, however good the defaults become."""
    return md.AdvancedQuantizationParameters(
        disable_bias_correction=True, activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
    )


def datasets(calibration: int = 16, validation: int = 120) -> tuple[md.Dataset, md.Dataset]:
    """Few items, always the same."""
    return md.Dataset(demo.calibration_items()[:calibration]), md.Dataset(demo.validation_items()[:validation])


def accuracy(compiled: ov.CompiledModel, items: Iterable[Any]) -> tuple[float, list[float]]:
    """Top-1 accuracy and 0 or 1 for each item."""
    output = compiled.outputs[0]
    hits = [float(np.argmax(compiled(image)[output]) == label) for image, label in items]
    return float(np.mean(hits)), hits


class CountedAccuracy:
    """`accuracy` that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, compiled: ov.CompiledModel, items: Iterable[Any]) -> tuple[float, list[float]]:
        """Score and count."""
        self.calls += 1
        return accuracy(compiled, items)
