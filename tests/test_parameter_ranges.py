"""Range estimators and batches, by the ranges of the model that comes out.

Its input is small enough for the statistics to hold all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset13 as op

import maxdrop as md
from maxdrop.options import (
    AdvancedQuantizationParameters,
    AggregatorType,
    QuantizationPreset,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
)
from tests.graphs.layers import const, conv, model, named, normal, parameter, rng
from tests.test_parameters import SMOOTH_OFF, estimator, facts


def small(count: int = 7, batch: int = 1) -> list[NDArray[np.float32]]:
    made = [rng(f"small{i}").standard_normal((1, 2, 3, 3)) * (1 + i % 4) - 0.3 for i in range(count * batch)]
    return [np.concatenate(made[i * batch : (i + 1) * batch]).astype(np.float32) for i in range(count)]


def range_of_input(samples: Sequence[Any], **advanced: Any) -> tuple[float, NDArray[Any]]:
    """Upper end of the range of the input, and the scales of the weights."""
    x = parameter((-1, 2, 3, 3))
    made = model([conv(x, 3, "c", kernel=3)], [x])
    parameters = AdvancedQuantizationParameters(**SMOOTH_OFF, **advanced)
    performance = QuantizationPreset.PERFORMANCE
    quantized_model = md.quantize(
        made, md.Dataset(list(samples)), preset=performance, placement="all", advanced_parameters=parameters
    )
    found = facts(quantized_model)
    return float(found.high["x"].max()), found.scale["c"].ravel()


STATISTICS: dict[StatisticsType, Callable[[NDArray[Any], bool], float]] = {
    StatisticsType.MIN: lambda x, upper: x.min(),
    StatisticsType.MAX: lambda x, upper: x.max(),
    StatisticsType.ABS_MAX: lambda x, upper: (1 if upper else -1) * np.abs(x).max(),
    StatisticsType.MEAN: lambda x, upper: x.mean(),
    StatisticsType.QUANTILE: lambda x, upper: np.quantile(x, 0.9 if upper else 0.1),
    StatisticsType.ABS_QUANTILE: lambda x, upper: (1 if upper else -1) * np.quantile(np.abs(x), 0.9),
}


def _without_outliers(numbers: NDArray[Any]) -> NDArray[Any]:
    first, third = np.quantile(numbers, [0.25, 0.75])
    reach = 1.5 * (third - first)
    return np.asarray(numbers[(numbers >= first - reach) & (numbers <= third + reach)])


AGGREGATORS: dict[AggregatorType, Callable[[NDArray[Any]], float]] = {
    AggregatorType.MIN: np.min,
    AggregatorType.MAX: np.max,
    AggregatorType.MEAN: np.mean,
    AggregatorType.MEDIAN: np.median,
    AggregatorType.MEAN_NO_OUTLIERS: lambda n: np.mean(_without_outliers(n)),
    AggregatorType.MEDIAN_NO_OUTLIERS: lambda n: np.median(_without_outliers(n)),
}


def _symmetric(low: float, high: float) -> float:
    return max(-min(low, 0.0), max(high, 0.0))


@pytest.mark.parametrize(("statistic", "aggregator"), list(product(STATISTICS, AGGREGATORS)))
def test_range_estimators(statistic: StatisticsType, aggregator: AggregatorType) -> None:
    end = StatisticsCollectorParameters(statistic, aggregator, quantile_outlier_prob=0.1)
    samples = small()
    found, _ = range_of_input(samples, activations_range_estimator_params=estimator(end))
    low, high = (
        AGGREGATORS[aggregator](np.array([STATISTICS[statistic](x, upper) for x in samples])) for upper in (False, True)
    )
    assert found == pytest.approx(_symmetric(float(low), float(high)) or 127.0, rel=1e-4)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_range_estimators_of_weights(statistic: StatisticsType) -> None:
    end = StatisticsCollectorParameters(statistic, AggregatorType.MEAN, quantile_outlier_prob=0.1)
    _, scales = range_of_input(small(), weights_range_estimator_params=estimator(end))
    weight = normal("c", 3, 2, 3, 3, scale=(2 * 9) ** -0.5)
    ends = [[STATISTICS[statistic](row, upper) for upper in (False, True)] for row in weight]
    np.testing.assert_allclose(scales, [_symmetric(*pair) / 127 for pair in ends], rtol=1e-4)


def test_clipping_values() -> None:
    end = StatisticsCollectorParameters(clipping_value=0.25)
    found, scales = range_of_input(
        small(), activations_range_estimator_params=estimator(end), weights_range_estimator_params=estimator(end)
    )
    assert found == pytest.approx(0.25, rel=1e-5)
    np.testing.assert_allclose(scales, 0.25 / 127, rtol=1e-5)


def test_the_histogram_of_weights_has_the_least_error() -> None:
    weight = normal("c", 3, 2, 3, 3, scale=(2 * 9) ** -0.5).reshape(3, -1)

    def error(scales: NDArray[Any]) -> NDArray[Any]:
        step = scales[:, None]
        return np.asarray(np.square(np.clip(np.rint(weight / step), -127, 127) * step - weight).sum(axis=1))

    _, plain = range_of_input(small())
    _, best = range_of_input(small(), weights_range_estimator_params=RangeEstimatorParametersSet.HISTOGRAM)
    assert (error(best) <= error(plain)).all()
    assert (best <= plain).all()


def test_batches_are_split_into_samples_unless_told_otherwise() -> None:
    mean: dict[str, Any] = {"activations_range_estimator_params": RangeEstimatorParametersSet.MEAN_MINMAX}
    batches, items = small(3, batch=4), [x[None] for batch in small(3, batch=4) for x in batch]
    by_item, _ = range_of_input(items, **mean)
    for batchwise in (None, True):
        assert range_of_input(batches, batchwise_statistics=batchwise, **mean)[0] == pytest.approx(by_item, rel=1e-5)
    by_batch, _ = range_of_input(batches, batchwise_statistics=False, **mean)
    low, high = (np.mean([f(batch) for batch in batches]) for f in (np.min, np.max))
    assert by_batch == pytest.approx(_symmetric(float(low), float(high)), rel=1e-5)
    assert by_batch > 1.05 * by_item


def test_batches_are_counted_by_the_subset_size() -> None:
    x = parameter((-1, 2, 3, 3))
    batches, taken = small(3, batch=4), []

    def note(batch: Any) -> Any:
        taken.append(len(batch))
        return batch

    md.quantize(model([conv(x, 3, "c")], [x]), md.Dataset(batches, note), subset_size=2, placement="all")
    assert taken == [4, 4]


def two_axes() -> ov.Model:
    """A square value that one product sums over its rows and another over its columns."""
    x = parameter((1, 16, 16))
    y = named(op.relu(op.multiply(x, const(np.ones((1, 1, 1), np.float32)))), "y")
    weights = [const(normal(f"w{i}", 16, 12, scale=0.25)) for i in range(2)]
    ends = [
        named(op.matmul(y, weights[0], False, False), "by_rows"),
        named(op.matmul(y, weights[1], True, False), "by_columns"),
    ]
    return model(ends, [x])


def test_readers_that_sum_over_different_axes_of_one_value() -> None:
    """Clipped where the rows are large: only the means along the axis that is summed give back what is lost."""
    size = np.linspace(0.0, 4.0, 16, dtype=np.float32)[:, None]
    samples = [(size + rng(f"axes{i}").standard_normal((1, 16, 16))).astype(np.float32) for i in range(16)]
    clip: dict[str, Any] = {
        "activations_range_estimator_params": estimator(StatisticsCollectorParameters(clipping_value=3.0))
    }
    advanced = AdvancedQuantizationParameters(**SMOOTH_OFF, **clip)
    result_model = md.quantize(two_axes(), md.Dataset(samples), placement="all", advanced_parameters=advanced)
    before, after = ([ov.compile_model(m)(x) for x in samples] for m in (two_axes(), result_model))
    for i in range(2):
        lost = np.mean([a[i] - b[i] for a, b in zip(before, after, strict=True)], axis=(0, 1, 2))
        spread = np.std([a[i] for a in before])
        assert np.abs(lost).max() < 0.06 * spread  # three times that along the wrong axis
