from __future__ import annotations

import numpy as np
import pytest

from maxdrop.data.graph import Contraction
from maxdrop.data.plan import Candidate
from maxdrop.data.spec import Policy
from maxdrop.ptq.bias_correction import relative_shift
from maxdrop.ptq.build import Planner
from maxdrop.ptq.calibration import calibration_requests
from maxdrop.ptq.payoff import choose_int8
from maxdrop.testing.estimator_suite import statistics_of
from maxdrop.testing.toy_backend import ToyBackend
from tests.toys import toy_model, toy_samples


def test_the_shift_is_measured_in_units_of_the_output() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(0.0, 1.0, (5, 8)).astype(np.float32)
    rows = rng.normal(0.0, 1.0, (4000, 8)).astype(np.float32)
    spread = np.sqrt(np.square(rows @ weight.T).mean(axis=0))
    shift = np.array([0.0, 0.0, -0.5, 0.1, 0.0], np.float32) * spread
    found = relative_shift(
        shift.astype(np.float32), weight, Contraction((0,), (-1,), 1, (0,), 1, -1), statistics_of([rows])
    )
    assert found == pytest.approx(0.5, rel=0.1)


def test_shifts_above_the_threshold_are_not_applied() -> None:
    backend, model = ToyBackend(), toy_model()
    graph = backend.graph(model)
    requests = calibration_requests(graph, choose_int8(graph, Policy(placement="all"))[0])
    statistics = backend.observe(model, requests, toy_samples(), lambda done: None)
    counts = [
        len(Planner(graph, Policy(placement="all", bias_correction_threshold=limit), statistics)(Candidate()).edits)
        for limit in (None, 1e3, 0.0)
    ]
    assert counts[0] == counts[1] > counts[2] == 0
