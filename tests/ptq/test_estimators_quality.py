"""How good the ranges are, where the best one is known or the cost can be computed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from maxdrop.data.plan import Candidate
from maxdrop.data.spec import ActivationPolicy, EstimatorSpec, Policy, QuantizerSpec
from maxdrop.ptq.build import Planner
from maxdrop.ptq.calibration import calibration_requests
from maxdrop.ptq.numerics import fake_quantize, params_from_range
from maxdrop.ptq.payoff import choose_int8
from maxdrop.ptq.ranges import ESTIMATORS, get_estimator
from maxdrop.ptq.ranges.aciq import GAUSS, LAPLACE
from maxdrop.testing.estimator_suite import statistics_of
from maxdrop.testing.toy_backend import ToyBackend
from tests.toys import toy_model, toy_samples

F32 = NDArray[np.float32]
Draw = Callable[[np.random.Generator, int], F32]

INT8 = QuantizerSpec(dtype="int8")
ASYMMETRIC = QuantizerSpec(dtype="uint8", symmetric=False)
C = 16


def _normal(rng: np.random.Generator, rows: int) -> F32:
    return rng.normal(0.0, 1.0, (rows, C)).astype(np.float32)


def _laplace(rng: np.random.Generator, rows: int) -> F32:
    return rng.laplace(0.0, 1.0, (rows, C)).astype(np.float32)


def _spiky(rng: np.random.Generator, rows: int) -> F32:
    """Channel 3 reaches 60 times as far as the others."""
    x = _normal(rng, rows)
    x[:, 3] *= 60.0
    return x


def _samples(draw: Draw, count: int = 40, rows: int = 200, seed: int = 0) -> list[F32]:
    rng = np.random.default_rng(seed)
    return [draw(rng, rows) for _ in range(count)]


def _noise(draw: Draw, name: str, importance: F32 | None = None, spec: QuantizerSpec = ASYMMETRIC) -> float:
    """Mean squared error on samples that the estimator did not see, each channel counted by its importance."""
    found = get_estimator(EstimatorSpec(name=name), importance)(statistics_of(_samples(draw)), spec)
    fresh = np.concatenate(_samples(draw, seed=1))
    error = np.square(fake_quantize(fresh, params_from_range(*found, spec), spec) - fresh).mean(axis=0)
    return float(np.mean(error * (1.0 if importance is None else importance)))


@pytest.mark.parametrize("name", ["mse", "output_mse", "auto", "aciq"])
@pytest.mark.parametrize("draw", [_normal, _laplace])
def test_clipping_what_is_rare_pays(draw: Draw, name: str) -> None:
    assert _noise(draw, name) < _noise(draw, "minmax")


@pytest.mark.parametrize("name", ["output_mse", "auto"])
def test_a_channel_that_hardly_counts_does_not_set_the_range(name: str) -> None:
    importance = np.where(np.arange(C) == 3, 1e-5, 1.0).astype(np.float32)
    assert _noise(_spiky, name, importance) < 0.2 * _noise(_spiky, "mse", importance)
    assert _noise(_spiky, name, importance) < 0.2 * _noise(_spiky, "minmax", importance)


@pytest.mark.parametrize("name", ["output_mse", "auto"])
def test_a_channel_that_counts_is_not_clipped(name: str) -> None:
    """Where rare extremes carry the answer, the energy of the weights that read them is large."""
    importance = np.where(np.arange(C) == 3, 100.0, 1.0).astype(np.float32)
    low, high = get_estimator(EstimatorSpec(name=name), importance)(statistics_of(_samples(_spiky)), ASYMMETRIC)
    exact = get_estimator(EstimatorSpec(name="minmax"))(statistics_of(_samples(_spiky)), ASYMMETRIC)
    assert low == pytest.approx(exact[0], rel=0.35)
    assert high == pytest.approx(exact[1], rel=0.35)


def test_importance_of_other_channels_is_left_out() -> None:
    """Values that share a quantizer have no channels in common."""
    statistics = statistics_of(_samples(_normal, count=3))
    found = get_estimator(EstimatorSpec(name="output_mse"), np.ones(C + 1))(statistics, INT8)
    assert found == get_estimator(EstimatorSpec(name="mse"))(statistics, INT8)


@pytest.mark.parametrize(("draw", "reach"), [(_normal, GAUSS), (_laplace, LAPLACE)])
def test_aciq_finds_the_closed_form(draw: Draw, reach: float) -> None:
    low, high = ESTIMATORS["aciq"](statistics_of(_samples(draw)), INT8)
    assert high == pytest.approx(reach, rel=0.03)
    assert low == pytest.approx(-reach, rel=0.03)
    half = [np.abs(sample) for sample in _samples(draw)]
    low, high = ESTIMATORS["aciq"](statistics_of(half), QuantizerSpec(dtype="uint8"))
    assert low == 0.0 or low == min(float(sample.min()) for sample in half)
    assert high == pytest.approx(reach, rel=0.03)


def test_quantile_leaves_out_single_spikes() -> None:
    samples = _samples(_normal)
    samples[7][0, 0], samples[9][1, 1] = 1e4, -1e4
    low, high = ESTIMATORS["quantile"](statistics_of(samples), INT8)
    assert -6.0 < low < -3.0
    assert 3.0 < high < 6.0


def test_entropy_leaves_out_a_far_tail() -> None:
    samples = _samples(_normal)
    for sample in samples:
        sample[0, 0] = 20.0
    low, high = ESTIMATORS["entropy"](statistics_of(samples), INT8)
    assert 3.0 < high < 15.0
    assert -low < 15.0


def test_what_comes_from_outside_is_never_clipped() -> None:
    backend, model = ToyBackend(), toy_model()
    graph = backend.graph(model)
    policy = Policy(placement="all", activations=ActivationPolicy(estimator=EstimatorSpec(name="auto")))
    requests = calibration_requests(graph, choose_int8(graph, policy)[0])
    statistics = backend.observe(model, requests, toy_samples(), lambda done: None)
    plan = Planner(graph, policy, statistics)(Candidate())
    (first,) = [q for q in plan.quantizers if graph.producer(q.value).native_type == "Parameter"]
    tensor = statistics[first.value]
    expected = params_from_range(tensor.sample_min.min(), tensor.sample_max.max(), first.spec)
    if first.spec.smooth_axis is None:
        assert first.params == expected
