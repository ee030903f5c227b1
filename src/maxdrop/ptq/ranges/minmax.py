"""Ranges from extremes: nothing clipped, or what a typical sample does not reach clipped."""

from __future__ import annotations

from maxdrop.data.spec import QuantizerSpec
from maxdrop.data.statistics import TensorStatistics


def minmax_range(statistics: TensorStatistics, spec: QuantizerSpec) -> tuple[float, float]:
    """The extremes over all samples; clips nothing that was seen."""
    return float(statistics.sample_min.min()), float(statistics.sample_max.max())


def mean_minmax_range(statistics: TensorStatistics, spec: QuantizerSpec) -> tuple[float, float]:
    """The means over the samples of each sample's extremes; clips what a typical sample does not reach."""
    return float(statistics.sample_min.mean()), float(statistics.sample_max.mean())
