"""The range with the least squared error at the output of the ops that read the tensor."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from maxdrop.data.spec import QuantizerSpec
from maxdrop.data.statistics import TensorStatistics
from maxdrop.ptq.ranges.histogram import histogram
from maxdrop.ptq.ranges.mse import least_error_range


def output_mse_range(
    statistics: TensorStatistics, spec: QuantizerSpec, importance: NDArray[Any] | None = None
) -> tuple[float, float]:
    """Like `mse_range`, with each channel's error counted by the energy of the weights that read it.

    That is the error of the ops' outputs, as far as the errors of different channels do not depend on each other.

    Args:
        statistics: of a tensor with C channels.
        spec: form of the quantizer.
        importance: (C,): sum of the squares of all weights that multiply each channel; None for equal ones.
    """
    if importance is not None and len(importance) != statistics.rows.shape[1]:
        importance = None  # values that share a quantizer have no channels in common
    return least_error_range(statistics, spec, histogram(statistics, importance))
