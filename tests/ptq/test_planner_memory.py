"""What a planner remembers must not leak into plans of other wishes."""

from __future__ import annotations

import pytest

from maxdrop.data.plan import Candidate
from maxdrop.data.spec import Policy
from tests.graphs import convolutions
from tests.graphs.check import planner_for
from tests.test_placement import images

PLAIN = Policy()


@pytest.mark.parametrize(
    "other",
    [
        Policy(reduced_range="all"),
        Policy(weights=PLAIN.weights.model_copy(update={"per_channel": False})),
        Policy(activations=PLAIN.activations.model_copy(update={"symmetric": True})),
        Policy(bias_correction=False),
    ],
    ids=["reduced range", "per tensor", "symmetric", "no bias correction"],
)
def test_another_policy_gives_the_plan_of_a_fresh_planner(other: Policy) -> None:
    model = convolutions.depthwise_pointwise()
    used = planner_for(model, images(4), PLAIN)
    before = used(Candidate())
    fresh = planner_for(model, images(4), other)(Candidate())
    assert used.with_policy(other)(Candidate()) == fresh
    assert fresh != before
    assert used(Candidate()) == before
