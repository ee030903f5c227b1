from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxdrop.data.trace import Evidence, Trial
from maxdrop.search.criterion import Criterion
from maxdrop.search.limits import Limits, Measurement
from maxdrop.search.rejection import Rejection, make_rejection
from maxdrop.search.scoring import Rejected, Scorer

EQUAL = {"items_alone_equal": True}


def trial(values: Any, number: int = 0) -> Trial:
    per_item = tuple(float(v) for v in values)
    return Trial(number=number, role="float", candidate=None, metric=float(np.mean(per_item)), per_item=per_item)


def rule(values: Any, criterion: Criterion, seed: int = 0) -> Rejection:
    made = make_rejection([trial(values)], criterion, len(values), EQUAL, seed)
    assert isinstance(made, Rejection), made
    return made


def judge(made: Rejection, values: Any) -> Evidence | None:
    """What the looks say, one after another."""
    scored: dict[int, float] = {}
    for part in made.parts:
        scored.update({i: float(values[i]) for i in part})
        evidence = made.verdict(scored)
        if evidence is not None:
            return evidence
    return None


@given(st.integers(0, 2**32), st.integers(150, 400), st.floats(0.0, 0.4), st.floats(0.0, 0.1), st.booleans())
@settings(max_examples=150)
def test_the_bound_rejects_only_what_fails(seed: int, items: int, flips: float, limit: float, higher: bool) -> None:
    rng = np.random.default_rng(seed)
    before = (rng.random(items) < 0.8).astype(float)
    after = np.where(rng.random(items) < flips, rng.random(items) < 0.5, before).astype(float)
    criterion = Criterion(max_drop=limit, higher_is_better=higher)
    evidence = judge(rule(before, criterion), after)
    if evidence is not None and evidence.test == "bound":
        assert not criterion.passes(criterion.drop(float(after.mean()), float(before.mean())))


def test_the_bets_reject_a_candidate_at_the_limit_in_at_most_1_percent() -> None:
    rejected = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        before = np.ones(1000)
        before[rng.permutation(1000)[:100]] = 0.0
        after = before.copy()
        after[rng.choice(np.flatnonzero(before == 1.0), 40, replace=False)] = 0.0
        after[rng.choice(np.flatnonzero(before == 0.0), 20, replace=False)] = 1.0
        rejected += judge(rule(before, Criterion(max_drop=0.02), seed), after) is not None
    assert rejected <= 8


@pytest.mark.parametrize(("lost", "share"), [(200, 0.25), (80, 0.6)])
def test_clear_failures_are_rejected_after_some_of_the_items(lost: int, share: float) -> None:
    before = np.ones(1000)
    before[::50] = 0.0
    after = before.copy()
    after[np.random.default_rng(0).choice(np.flatnonzero(before), lost, replace=False)] = 0.0
    evidence = judge(rule(before, Criterion(max_drop=0.02)), after)
    assert evidence is not None
    assert evidence.items / evidence.of <= share


def test_parts_are_all_items_in_an_order_that_the_seed_gives() -> None:
    values = np.ones(300)
    first, again, other = (rule(values, Criterion(max_drop=0.1), seed).parts for seed in (0, 0, 1))
    assert first == again != other
    assert sorted(i for part in first for i in part) == list(range(300))


def test_values_outside_the_known_range_reject_nothing() -> None:
    before = np.linspace(0.0, 1.0, 300)
    assert judge(rule(before, Criterion(max_drop=0.01)), before - 5.0) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"count": None}, "by position"),
        ({"count": 299}, "300 numbers for 299 items"),
        ({"note": {"items_alone_equal": False}}, "alone"),
        ({"note": {}}, "alone"),
        ({"metric": 0.123}, "is not the metric"),
        ({"per_item": None}, "no numbers per item"),
        ({"per_item": (float("nan"),) * 300}, "finite"),
    ],
)
def test_it_says_why_it_is_not_valid(change: dict[str, Any], reason: str) -> None:
    floating = trial(np.ones(300)).model_copy(update={k: v for k, v in change.items() if k in ("metric", "per_item")})
    made = make_rejection([floating], Criterion(max_drop=0.1), change.get("count", 300), change.get("note", EQUAL), 0)
    assert isinstance(made, str)
    assert reason in made


def test_few_items_are_not_split() -> None:
    made = make_rejection([trial(np.ones(60))], Criterion(max_drop=0.1), 60, EQUAL, 0)
    assert isinstance(made, str)
    assert "too few" in made


class Source:
    positions = 300

    def items(self, positions: Any = None) -> list[int]:
        return list(range(300)) if positions is None else list(positions)


def scorer(values: Any, lie: float = 0.0) -> tuple[Scorer, list[int]]:
    calls: list[int] = []

    def validate(compiled: Any, items: list[int]) -> Any:
        calls.append(len(items))
        chosen = [float(values[i]) for i in items]
        return float(np.mean(chosen)) + (lie if len(items) < 300 else 0.0), chosen

    return Scorer(validate, Source(), Limits(criteria={"": Criterion(max_drop=0.02)})), calls


def test_parts_give_what_the_whole_gives() -> None:
    values = np.random.default_rng(0).random(300)
    made, calls = scorer(values)
    parts = made.in_parts(None, rule(values, Criterion(max_drop=0.02)))
    assert parts == made.whole(None)
    assert calls[:-1] == [75, 105, 120]


def test_a_rejected_candidate_costs_a_part() -> None:
    made, calls = scorer(np.zeros(300))
    found = made.in_parts(None, rule(np.ones(300), Criterion(max_drop=0.5)))
    assert isinstance(found, Measurement)  # values below those of the float model: their range is not known
    floats = np.ones(300)
    floats[0] = 0.0
    calls.clear()
    found = made.in_parts(None, rule(floats, Criterion(max_drop=0.1)))
    assert isinstance(found, Rejected)
    assert found.drop > 0.9
    assert calls == [75]


def test_parts_that_are_not_made_of_their_values_are_scored_whole() -> None:
    values = np.random.default_rng(0).random(300)
    made, calls = scorer(values, lie=0.1)
    assert made.in_parts(None, rule(values, Criterion(max_drop=0.02))) == made.whole(None)
    assert calls[:2] == [75, 300]
