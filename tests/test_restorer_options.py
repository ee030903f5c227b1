"""What `AdvancedAccuracyRestorerParameters` does to a whole search, on the toy backend."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maxdrop.control import AccuracyControl, ControlOptions
from maxdrop.data.spec import ActivationPolicy, EstimatorSpec, Policy, Precision, SmoothQuantPolicy
from maxdrop.dataset import Dataset
from maxdrop.errors import MaxdropError, ValidationError
from maxdrop.options import AdvancedAccuracyRestorerParameters, RestoreMode
from maxdrop.preparation import Prepared
from maxdrop.progress import ProgressReporter
from maxdrop.ptq.numerics import nmse
from maxdrop.resolve import QuantizeOptions
from maxdrop.result import AccuracyControlResult
from maxdrop.search.criterion import Criterion
from maxdrop.testing.toy_backend import ToyBackend, ToyCompiled
from tests.toys import toy_model, toy_samples

# Simple enough that the search has work to do, however good the defaults become.
COARSE = Policy(
    activations=ActivationPolicy(estimator=EstimatorSpec(name="minmax"), symmetric=True),
    smooth_quant=SmoothQuantPolicy(matmul=None),
    bias_correction=False,
)
REVERTED = {RestoreMode.ACTIVATIONS_AND_WEIGHTS: Precision.FLOAT, RestoreMode.ONLY_ACTIVATIONS: Precision.INT8_WEIGHTS}


def _validate(compiled: ToyCompiled, items: Any) -> float:
    """Closeness to the float model, so that every int8 op costs something."""
    pairs = [(compiled(item)[0], toy_model().run(item)[0]) for item in items]
    return 1.0 - nmse(np.concatenate([b for _, b in pairs]), np.concatenate([a for a, _ in pairs]))


def _control(max_drop: float = 5e-5, **chosen: Any) -> AccuracyControl:
    backend, model = ToyBackend(), toy_model()
    restorer = AdvancedAccuracyRestorerParameters(**chosen)
    control = ControlOptions(Criterion(max_drop=max_drop), restorer, {}, None, None)
    prepared = Prepared(backend, model, backend.graph(model), COARSE)
    return AccuracyControl(prepared, QuantizeOptions(), control, ProgressReporter(False))


def _run(**chosen: Any) -> AccuracyControlResult:
    return _control(**chosen).run(Dataset(toy_samples(8)), Dataset(toy_samples(4, seed=2)), _validate)


def _tried(result: AccuracyControlResult) -> set[Precision]:
    return {p for trial in result.trace.trials if trial.candidate for p in trial.candidate.precisions.values()}


def test_the_defaults_search() -> None:
    result = _run()
    assert result.reached
    assert 0 < len(result.reverted) < 5
    assert sum(trial.role in ("search", "prune") for trial in result.trace.trials) > 1


def test_max_num_iterations() -> None:
    result = _run(max_num_iterations=1)
    assert sum(trial.role in ("search", "prune") for trial in result.trace.trials) == 1
    assert "1 candidates" in result.stop_reason
    assert not _run(max_num_iterations=0).reached


@pytest.mark.parametrize("mode", list(RestoreMode))
def test_restore_mode(mode: RestoreMode) -> None:
    assert _tried(_run(restore_mode=mode)) == {REVERTED[mode]}


def test_intermediate_model_dir(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    result = _run(intermediate_model_dir=str(folder))
    model = ToyBackend().load(folder / "intermediate_model.xml")
    metric = _validate(ToyCompiled(model), toy_samples(4, seed=2))
    assert result.float_metric - metric == result.int8_drop


def test_ranking_subset_size() -> None:
    notes = [_run(ranking_subset_size=size).trace.notes["sensitivity"] for size in (1, 3)]
    assert notes[0] != notes[1]


def test_num_ranking_workers_changes_nothing() -> None:
    assert _run(num_ranking_workers=3).plan == _run().plan


@pytest.mark.parametrize(
    ("chosen", "error", "name"),
    [
        ({"max_num_iterations": -1}, ValidationError, "max_num_iterations"),
        ({"ranking_subset_size": 0}, ValidationError, "ranking_subset_size"),
        ({"restore_mode": "everything"}, ValidationError, "restore_mode"),
        ({"num_ranking_workers": 0}, ValidationError, "num_ranking_workers"),
    ],
)
def test_values_that_are_refused(chosen: dict[str, Any], error: type[MaxdropError], name: str) -> None:
    with pytest.raises(error, match=name):
        _control(**chosen)


def test_datasets_and_samples_are_not_changed() -> None:
    samples = toy_samples(8)
    calibration = Dataset(samples, lambda x: x)
    before = copy.deepcopy((samples, {k: v for k, v in vars(calibration).items() if k != "_transform"}))
    _control().run(calibration, Dataset(samples), _validate)
    after = (samples, {k: v for k, v in vars(calibration).items() if k != "_transform"})
    np.testing.assert_equal(after, before)
