from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from maxdrop.data.protocols import RangeEstimator
from maxdrop.data.spec import AggregatorKind, BoundSpec, EstimatorSpec, QuantizerSpec, StatisticKind
from maxdrop.errors import InternalError, ValidationError
from maxdrop.ptq.numerics import fake_quantize, params_from_range
from maxdrop.ptq.ranges import ESTIMATORS, get_estimator
from maxdrop.testing.estimator_suite import EstimatorSuite, statistics_of

INT8 = QuantizerSpec(dtype="int8")
F64 = NDArray[np.float64]


class TestEstimators(EstimatorSuite):
    @pytest.fixture(autouse=True, params=sorted(ESTIMATORS))
    def choose(self, request: pytest.FixtureRequest) -> None:
        self.chosen = ESTIMATORS[request.param]

    def estimator(self) -> RangeEstimator:
        return self.chosen


class TestBoundsAsMeanMinMax(EstimatorSuite):
    """The estimator that users describe end by end conforms too, where its two ends are sensible."""

    def estimator(self) -> RangeEstimator:
        low = BoundSpec(statistic=StatisticKind.MIN, aggregator=AggregatorKind.MEDIAN)
        high = BoundSpec(statistic=StatisticKind.MAX, aggregator=AggregatorKind.MEDIAN)
        return get_estimator(EstimatorSpec(name="bounds", lower=low, upper=high))


_PROB = 0.1
_RNG = np.random.default_rng(3)
# The fourth sample is an outlier in both directions; the sixth and seventh make the quartiles differ.
_FACTORS = (1.0, 1.1, 1.2, 40.0, 0.9, 1.3, 0.8)
_SAMPLES = [(f * _RNG.normal(0.2, 1.0, (10, 4))).astype(np.float32) for f in _FACTORS]

_PER_SAMPLE: dict[StatisticKind, tuple[Callable[[F64], Any], Callable[[F64], Any]]] = {
    StatisticKind.MIN: (np.min, np.min),
    StatisticKind.MAX: (np.max, np.max),
    StatisticKind.ABS_MAX: (lambda x: -np.abs(x).max(), lambda x: np.abs(x).max()),
    StatisticKind.QUANTILE: (lambda x: np.quantile(x, _PROB), lambda x: np.quantile(x, 1 - _PROB)),
    StatisticKind.ABS_QUANTILE: (
        lambda x: -np.quantile(np.abs(x), 1 - _PROB),
        lambda x: np.quantile(np.abs(x), 1 - _PROB),
    ),
    StatisticKind.MEAN: (np.mean, np.mean),
}


def _inliers(numbers: F64) -> F64:
    """Tukey's fences, written out: 1.5 interquartile ranges around the quartiles."""
    ordered = sorted(float(x) for x in numbers)

    def quartile(share: float) -> float:
        position = share * (len(ordered) - 1)
        below = int(position)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (position - below) * (ordered[above] - ordered[below])

    first, third = quartile(0.25), quartile(0.75)
    fence = 1.5 * (third - first)
    return np.array([x for x in ordered if first - fence <= x <= third + fence])


_AGGREGATE: dict[AggregatorKind, Callable[[F64], Any]] = {
    AggregatorKind.MIN: np.min,
    AggregatorKind.MAX: np.max,
    AggregatorKind.MEAN: np.mean,
    AggregatorKind.MEDIAN: np.median,
    AggregatorKind.MEAN_NO_OUTLIERS: lambda x: np.mean(_inliers(x)),
    AggregatorKind.MEDIAN_NO_OUTLIERS: lambda x: np.median(_inliers(x)),
}


@pytest.mark.parametrize("statistic", list(StatisticKind))
@pytest.mark.parametrize("aggregator", list(AggregatorKind))
@pytest.mark.parametrize("clip", [None, 0.75])
def test_bounds_of_every_statistic_and_aggregator(
    statistic: StatisticKind, aggregator: AggregatorKind, clip: float | None
) -> None:
    bound = BoundSpec(statistic=statistic, aggregator=aggregator, clipping_value=clip, outlier_prob=_PROB)
    found = get_estimator(EstimatorSpec(name="bounds", lower=bound, upper=bound))(statistics_of(_SAMPLES), INT8)
    expected = []
    for take in _PER_SAMPLE[statistic]:
        numbers = np.array([take(sample.astype(np.float64)) for sample in _SAMPLES])
        value = float(_AGGREGATE[aggregator](numbers))
        expected.append(value if clip is None else max(-clip, min(clip, value)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_outliers_are_left_out() -> None:
    """The numbers differ, so the cases above tell the aggregators apart."""
    highs = np.array([float(sample.max()) for sample in _SAMPLES])
    assert len(_inliers(highs)) == len(highs) - 1
    assert np.mean(_inliers(highs)) < 0.5 * np.mean(highs)


def test_bounds_takes_each_end_from_its_own_description() -> None:
    low = BoundSpec(statistic=StatisticKind.MIN, aggregator=AggregatorKind.MIN)
    high = BoundSpec(statistic=StatisticKind.MAX, aggregator=AggregatorKind.MEDIAN)
    found = get_estimator(EstimatorSpec(name="bounds", lower=low, upper=high))(statistics_of(_SAMPLES), INT8)
    assert found == (min(float(s.min()) for s in _SAMPLES), float(np.median([s.max() for s in _SAMPLES])))


def test_bounds_without_an_end_is_a_defect() -> None:
    with pytest.raises(InternalError, match="both ends"):
        get_estimator(EstimatorSpec(name="bounds"))(statistics_of(_SAMPLES), INT8)


def test_an_unknown_estimator_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"'nonsense'"):
        get_estimator(EstimatorSpec(name="nonsense"))


def test_mse_beats_minmax_on_heavy_tails() -> None:
    """Laplace data with a few far elements: clipping them is worth it.

    Over [-r, r] the step of int8 is d = r / 127, and rounding costs d^2 / 12 for each element: 0.052 for r = 100.
    Clipping to r = 20 costs 0.002 for rounding, and 80^2 for the one far element among 10^6, which is 0.006 for
    each: together a sixth of min-max's.
    """
    rng = np.random.default_rng(0)
    samples = [rng.laplace(0.0, 1.0, (25_000, 8)).astype(np.float32) for _ in range(5)]
    samples[2][7, 3] = 100.0
    elements = np.concatenate([sample.ravel() for sample in samples]).astype(np.float64)

    def error(name: str) -> float:
        # Each sample's extremes count once more in the estimator; a million elements outweigh them.
        params = params_from_range(*get_estimator(EstimatorSpec(name=name))(statistics_of(samples), INT8), INT8)
        return float(np.square(elements - fake_quantize(elements, params, INT8)).mean())

    assert error("minmax") == pytest.approx((100.0 / 127) ** 2 / 12, rel=0.1)
    assert error("mse") < 0.25 * error("minmax")


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_mse_is_never_worse_than_minmax(dtype: Any) -> None:
    rng = np.random.default_rng(1)
    spec = QuantizerSpec(dtype=dtype, symmetric=dtype == "int8")
    for df in (1.5, 3.0, 30.0):
        samples = [rng.standard_t(df, (200, 8)).astype(np.float32) for _ in range(4)]
        elements = np.concatenate([sample.ravel() for sample in samples])
        errors = {}
        for name in ("minmax", "mse"):
            params = params_from_range(*ESTIMATORS[name](statistics_of(samples), spec), spec)
            errors[name] = float(np.square(elements - fake_quantize(elements, params, spec)).sum())
        assert errors["mse"] <= 1.02 * errors["minmax"]  # a histogram stands for the elements
