"""What every range estimator must do. Subclass `EstimatorSuite` in a test module and give `estimator`."""

# ruff: noqa: D102 - the names of the tests say what they hold

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.protocols import RangeEstimator
from maxdrop.data.spec import QuantizerSpec
from maxdrop.data.statistics import TensorStatistics
from maxdrop.ptq.numerics import params_from_range

F32 = NDArray[np.float32]

SPECS = (
    QuantizerSpec(dtype="int8"),
    QuantizerSpec(dtype="uint8"),
    QuantizerSpec(dtype="uint8", symmetric=False),
    QuantizerSpec(dtype="int8", narrow_range=True),
)
"""The forms that activations take."""


def statistics_of(samples: list[F32]) -> TensorStatistics:
    """Statistics with every row kept; each sample has shape (rows, channels)."""
    return TensorStatistics(
        np.array([sample.min() for sample in samples], np.float32),
        np.array([sample.max() for sample in samples], np.float32),
        np.min([sample.min(axis=0) for sample in samples], axis=0),
        np.max([sample.max(axis=0) for sample in samples], axis=0),
        np.mean([sample.mean(axis=0) for sample in samples], axis=0).astype(np.float32),
        np.concatenate(samples),
        np.repeat(np.arange(len(samples), dtype=np.int32), [len(sample) for sample in samples]),
    )


def tensors() -> dict[str, list[F32]]:
    """Samples of many shapes: both signs, one sign, far from zero, heavy tails, one sample, one element."""
    rng = np.random.default_rng(0)
    normal = [rng.normal(0.0, 1.0, (20, 6)).astype(np.float32) for _ in range(5)]
    return {
        "normal": normal,
        "positive": [np.abs(x) for x in normal],
        "negative": [-np.abs(x) for x in normal],
        "far from zero": [x + np.float32(50.0) for x in normal],
        "heavy tails": [rng.standard_t(2.0, (20, 6)).astype(np.float32) for _ in range(5)],
        "tiny": [x * np.float32(1e-20) for x in normal],
        "huge": [x * np.float32(1e30) for x in normal],
        "one sample": normal[:1],
        "one element": [np.full((1, 1), 0.7, np.float32)],
        "nearly constant": [np.array([[1.0, np.nextafter(np.float32(1.0), np.float32(2.0))]], np.float32)],
    }


def constants() -> Iterator[tuple[np.float32, list[F32]]]:
    """Tensors that hold one number only."""
    for number in (0.0, 1.0, -1.0, 1e-3, -1e-3, 300.0, -1e-12, 1e20):
        yield np.float32(number), [np.full((4, 3), number, np.float32)] * 3


class EstimatorSuite:
    """Conformance tests; pytest collects those of a subclass whose name begins with "Test"."""

    def estimator(self) -> RangeEstimator:
        """The estimator to be tested."""
        raise NotImplementedError

    def test_the_range_is_finite_and_ordered(self) -> None:
        for name, samples in tensors().items():
            for spec in SPECS:
                low, high = self.estimator()(statistics_of(samples), spec)
                assert isinstance(low, float), name
                assert isinstance(high, float), name
                assert np.isfinite([low, high]).all(), name
                assert low <= high, name

    def test_the_range_stays_within_what_was_seen_and_zero(self) -> None:
        for name, samples in tensors().items():
            seen = np.concatenate([sample.ravel() for sample in samples])
            slack = 1e-6 * float(np.abs(seen).max())
            for spec in SPECS:
                low, high = self.estimator()(statistics_of(samples), spec)
                assert low >= min(float(seen.min()), 0.0) - slack, name
                assert high <= max(float(seen.max()), 0.0) + slack, name

    def test_scaling_the_tensor_scales_the_range(self) -> None:
        """By powers of two, with which float arithmetic is exact."""
        for name, samples in tensors().items():
            for spec in SPECS:
                expected = np.array(self.estimator()(statistics_of(samples), spec))
                for factor in (2.0**-7, 2.0**9):
                    scaled = [sample * np.float32(factor) for sample in samples]
                    found = self.estimator()(statistics_of(scaled), spec)
                    np.testing.assert_allclose(found, expected * factor, rtol=1e-6, err_msg=name)

    def test_the_order_of_the_samples_does_not_matter(self) -> None:
        for name, samples in tensors().items():
            for spec in SPECS:
                forward = self.estimator()(statistics_of(samples), spec)
                backward = self.estimator()(statistics_of(samples[::-1]), spec)
                np.testing.assert_allclose(backward, forward, rtol=1e-5, err_msg=name)

    def test_a_constant_is_represented(self) -> None:
        for number, samples in constants():
            for spec in (QuantizerSpec(dtype="int8"), QuantizerSpec(dtype="uint8", symmetric=False)):
                low, high = self.estimator()(statistics_of(samples), spec)
                params = params_from_range(low, high, spec)
                steps = (np.array([spec.quant_min, spec.quant_max]) - params.zero_point[0]) * params.scale[0]
                tolerance = 1e-5 * abs(number)
                assert steps[0] - tolerance <= number <= steps[1] + tolerance, (number, low, high)

    def test_the_statistics_stay_as_they_are(self) -> None:
        statistics = statistics_of(tensors()["normal"])
        before = {key: getattr(statistics, key).copy() for key in TensorStatistics.__dataclass_fields__}
        first = self.estimator()(statistics, SPECS[0])
        assert self.estimator()(statistics, SPECS[0]) == first
        for key, array in before.items():
            np.testing.assert_array_equal(getattr(statistics, key), array)
