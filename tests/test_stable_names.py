"""The same model gets the same names, whatever was made in the process before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

import maxdrop as md
from maxdrop.backends.openvino.stable_names import bodies
from maxdrop.backends.registry import open_model
from tests.graphs import bodies as controlled
from tests.graphs import branches, convolutions

MODELS = (
    convolutions.depthwise_pointwise,
    controlled.branch_body,
    controlled.loop_body,
    branches.several_inputs_and_outputs,
    convolutions.pad_reflect,
)


def names(model: ov.Model) -> list[str]:
    """Of all nodes, those of bodies too."""
    inner = [name for node in model.get_ordered_ops() for body in bodies(node) for name in names(body)]
    return [node.get_friendly_name() for node in model.get_ordered_ops()] + inner


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_equal_models_have_equal_fingerprints(make: Callable[[], ov.Model]) -> None:
    first, second = make(), make()
    assert names(first) != names(second)  # OpenVINO counts on
    found = [backend.graph(model).fingerprint for backend, model in (open_model(m, "CPU") for m in (first, second))]
    assert found[0] == found[1]


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_the_users_model_keeps_its_names(make: Callable[[], ov.Model]) -> None:
    model = make()
    before = names(model)
    open_model(model, "CPU")
    assert names(model) == before


def test_a_plan_fits_the_same_model_made_again(tmp_path: Path) -> None:
    """As after a restart, where other things were made before the model was read."""
    folder = tmp_path / "run"
    samples = [np.random.default_rng(i).standard_normal((1, 8, 8, 8)).astype(np.float32) for i in range(4)]

    calls: list[int] = []

    def score(compiled: ov.CompiledModel, items: list[NDArray[np.float32]]) -> float:
        calls.append(len(items))
        return float(np.mean([np.abs(compiled(x)[0]).mean() for x in items]))

    results = []
    for _ in range(2):
        made = md.control_accuracy(
            convolutions.depthwise_pointwise(), md.Dataset(samples), md.Dataset(samples), score, max_drop=0.5,
            placement="table", allow_slower=True, output_dir=folder, progress=False,
        )  # fmt: skip
        results.append((made.plan, len(calls)))
    assert results[0][0] == results[1][0]
    assert results[0][1] == results[1][1]  # the second run found everything in the trace
