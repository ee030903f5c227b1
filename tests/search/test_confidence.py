from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from maxdrop.data.trace import Trial
from maxdrop.errors import MetricError, ValidationError
from maxdrop.search.confidence import check_confidence, drop_interval, too_few_items, upper_drop
from maxdrop.search.criterion import Criterion
from maxdrop.search.limits import Limits, Measurement

LIMIT = 0.02
Values = NDArray[np.float64]


def validation_set(seed: int, items: int, true_drop: float, flips: float) -> tuple[Values, Values]:
    """Right or wrong for each item before and after; both drawn from a population with a known drop."""
    rng = np.random.default_rng([seed, items])
    u = rng.random(items)
    lost = np.where(u < (flips + true_drop) / 2, 1.0, np.where(u < flips, -1.0, 0.0))
    before = np.where(lost > 0, 1.0, np.where(lost < 0, 0.0, (rng.random(items) < 0.9).astype(float)))
    return before, before - lost


def upper(before: Values, after: Values, criterion: Criterion, level: float = 0.95) -> float:
    found = upper_drop(
        before.tolist(), after.tolist(), float(before.mean()), float(after.mean()), criterion, level=level
    )
    assert found is not None
    return found


def test_a_candidate_beyond_the_limit_is_accepted_in_at_most_5_percent_of_validation_sets() -> None:
    """The hardest case: the true drop is hardly above the limit. 500 sets of each of three kinds."""
    criterion = Criterion(max_drop=LIMIT)
    accepted = 0
    for items, flips in ((100, 0.03), (400, 0.04), (1000, 0.08)):
        sets = (validation_set(seed, items, LIMIT * 1.01, flips) for seed in range(500))
        accepted += sum(upper(before, after, criterion) <= LIMIT for before, after in sets)
    assert accepted <= 0.05 * 1500


def test_a_candidate_well_within_the_limit_is_accepted() -> None:
    criterion = Criterion(max_drop=LIMIT)
    sets = (validation_set(seed, 2000, 0.0, 0.03) for seed in range(50))
    assert sum(upper(before, after, criterion) <= LIMIT for before, after in sets) >= 48


def test_nothing_lost_on_few_items_is_not_certain() -> None:
    same = np.array([1.0] * 40 + [0.0] * 10)
    assert upper(same, same, Criterion(max_drop=LIMIT)) >= 0.02
    assert drop_interval(same.tolist(), same.tolist(), 0.8, 0.8, Criterion(max_drop=LIMIT)) == (0.0, 0.0)


@pytest.mark.parametrize("kind", ["absolute", "relative"])
@pytest.mark.parametrize("higher", [True, False])
def test_the_upper_end_is_beyond_the_drop_in_every_direction(kind: Any, higher: bool) -> None:
    rng = np.random.default_rng(3)
    before = rng.normal(5.0, 1.0, 200)
    after = before + rng.normal(0.0, 0.3, 200)
    criterion = Criterion(max_drop=0.1, drop_type=kind, higher_is_better=higher)
    drop = criterion.drop(float(after.mean()), float(before.mean()))
    low = upper(before, after, criterion, level=0.6)
    assert drop < low < upper(before, after, criterion, level=0.99)


def test_few_distinct_values_and_many_give_the_same_interval() -> None:
    before, after = validation_set(1, 400, 0.01, 0.1)
    jitter = np.random.default_rng(0).normal(0.0, 1e-9, 400)
    discrete = upper(before, after, Criterion(max_drop=LIMIT))
    assert upper(before, after + jitter, Criterion(max_drop=LIMIT)) == pytest.approx(discrete, abs=0.003)


def test_too_few_items_counts_in_limits() -> None:
    assert too_few_items((-0.01, 0.03), 0.01) == 2.0
    assert too_few_items(None, 0.01) == 0.0
    assert too_few_items((0.0, 0.0), 0.0) == 0.0


@pytest.mark.parametrize("confidence", [0.0, 0.4, 1.0, 95, float("nan"), "0.95"])
def test_what_is_no_confidence_is_refused(confidence: Any) -> None:
    with pytest.raises(ValidationError, match="confidence"):
        check_confidence(confidence)


@pytest.mark.parametrize("per_item", [None, (1.0, 1.0, 0.0)])
def test_values_that_do_not_make_up_the_metric_are_refused(per_item: Any) -> None:
    limits = Limits(criteria={"": Criterion(max_drop=0.1)}, confidence=0.95)
    floating = Trial(number=0, role="float", candidate=None, metric=0.5, drop=0.0, per_item=per_item)
    with pytest.raises(MetricError, match="mean of these numbers"):
        limits.upper_is_known(floating)
    assert Limits(criteria={"": Criterion(max_drop=0.1)}).upper(Measurement(0.5), floating) is None
