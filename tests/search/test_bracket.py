"""What the default strategy costs, with the limits that a real search has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from maxdrop.data.plan import Candidate
from maxdrop.data.trace import Role, Trial
from maxdrop.search.budget import Budget, default_max_validations
from maxdrop.search.criterion import Criterion
from maxdrop.search.curve import fit_curve
from maxdrop.search.loop import WORTHWHILE, best_passing, run_search
from maxdrop.search.space import Strategy
from maxdrop.search.strategies import STRATEGIES, get_strategy
from maxdrop.testing.strategy_suite import Simulation, StrategySuite, additive, noisy

SETUP_COMPILES = 4
"""Statistics, ranking, comparing two calls, timing: what is compiled beside the float model and the candidates."""


def run(strategy: Strategy, simulation: Simulation, max_validations: float = 10) -> tuple[list[Trial], float]:
    """All trials of a search, and the time that its answer gives away."""
    trials = [
        Trial(number=0, role="float", candidate=None, metric=1.0, drop=0.0),
        Trial(number=1, role="int8", candidate=Candidate(), metric=0.0, drop=simulation.space.int8_drop),
    ]

    def evaluate(candidate: Candidate, role: Role) -> Trial:
        drop = simulation.drop(frozenset(candidate.precisions))
        trials.append(Trial(number=len(trials), role=role, candidate=candidate, metric=1.0 - drop, drop=drop))
        return trials[-1]

    def known(candidate: Candidate) -> bool:
        return any(t.candidate == candidate for t in trials)

    budget = Budget(10**9, max_validations)
    run_search(strategy, simulation.space, simulation.criterion, evaluate, budget, known, trials)
    best = best_passing(trials, simulation.space, simulation.criterion)
    cost = 1.0 if best is None or best.candidate is None else simulation.space.cost(best.candidate)
    return trials, cost


@pytest.mark.parametrize(("kind", "typical"), [(additive, 6), (noisy, 8)])
@pytest.mark.parametrize("count", [20, 60, 300])
def test_few_validations_and_twelve_compiles_are_typical(
    kind: Callable[..., Simulation], typical: int, count: int
) -> None:
    used = []
    for seed in range(6):
        for limit in (0.6, 0.3, 0.1, 0.03):
            trials, cost = run(STRATEGIES["bracket"], kind(count, seed, limit))
            assert cost < 1.0
            used.append(sum(t.validations for t in trials))
    assert max(used) <= 10
    assert np.median(used) <= typical
    assert np.median(used) + SETUP_COMPILES <= 12


def test_it_needs_fewer_validations_than_one_op_at_a_time_for_an_equal_answer() -> None:
    bracket, greedy = [], []
    for seed in range(6):
        simulation = additive(60, seed, 0.1)
        bracket.append(run(STRATEGIES["bracket"], simulation))
        greedy.append(run(get_strategy("greedy"), simulation, max_validations=1000))
    assert 3 * sum(len(trials) for trials, _ in bracket) < sum(len(trials) for trials, _ in greedy)
    assert np.mean([cost for _, cost in bracket]) < np.mean([cost for _, cost in greedy])


def test_what_is_left_of_the_budget_is_spent_on_a_faster_model() -> None:
    costs = {spend: [run(STRATEGIES["bracket"], additive(20, s, 0.1), spend)[1] for s in range(8)] for spend in (4, 10)}
    assert all(more <= less for more, less in zip(costs[10], costs[4], strict=True))
    assert sum(costs[10]) < sum(costs[4])


@pytest.mark.parametrize("seed", range(12))
def test_an_op_that_passes_by_chance_is_found_too_where_the_budget_allows(seed: int) -> None:
    """A failed set says little about smaller ones where a metric is noisy, so each single op is tried at the end."""
    simulation = noisy(20, seed, 0.1)
    trials, _ = run(STRATEGIES["bracket"], simulation, max_validations=1000)
    best = best_passing(trials, simulation.space, simulation.criterion)
    assert best is not None
    assert best.candidate is not None
    floats = frozenset(best.candidate.precisions)
    assert not [op for op in floats if simulation.passes(floats - {op})]


def test_no_search_ends_with_validations_left_that_could_settle_every_op_worth_one() -> None:
    settled = 0
    for seed in range(60):
        simulation = noisy(20, seed, 0.1)
        trials, _ = run(STRATEGIES["bracket"], simulation, max_validations=16)
        best = best_passing(trials, simulation.space, simulation.criterion)
        floats = frozenset() if best is None or best.candidate is None else frozenset(best.candidate.precisions)
        worth = [op for op in floats if simulation.space.gain[op] >= WORTHWHILE]
        if worth and len(trials) + len(worth) <= 16:
            settled += 1
            assert not [op for op in worth if simulation.passes(floats - {op})], f"seed {seed}"
    assert settled > 0


def test_few_items_allow_more_validations() -> None:
    assert [default_max_validations(n) for n in (None, 0, 20, 700, 800, 1000, 50_000)] == [10, 10, 16, 14, 12, 10, 10]


@pytest.mark.parametrize("limit", [0.0, 1e-6])
def test_a_limit_that_no_prediction_meets_is_tried_all_the_same(limit: float) -> None:
    """A metric in steps does not see small errors, so even no drop at all can be reached."""
    for seed in range(6):
        trials, cost = run(STRATEGIES["bracket"], in_steps(additive(40, seed, 0.1), limit))
        assert cost < 1.0, f"the float model after {len(trials)} trials"
        assert len(trials) <= 10


def in_steps(simulation: Simulation, limit: float) -> Simulation:
    """The same model, the metric of which sees nothing below a fifth of the error."""
    space = simulation.space
    total = space.error(())
    return replace(
        simulation,
        criterion=Criterion(max_drop=limit),
        drop=lambda floats: 0.0 if space.error(floats) < 0.2 * total else 0.1,
    )


def test_the_curve_follows_a_power_law_and_an_outlier_does_not_bend_it() -> None:
    points = [(x, 2.0 * x**1.5) for x in (1.0, 0.5, 0.3, 0.2, 0.1)]
    curve = fit_curve(points, 0.2)
    assert curve is not None
    assert curve.gamma == pytest.approx(1.5, abs=0.05)
    assert curve(0.25) == pytest.approx(2.0 * 0.25**1.5, rel=0.1)
    bent = fit_curve([*points, (0.4, 5.0)], 0.2)
    assert bent is not None
    assert bent(0.25) == pytest.approx(curve(0.25), rel=0.3)


def test_the_curve_is_monotone_and_chances_fall_with_the_error() -> None:
    curve = fit_curve([(1.0, 0.2), (0.5, 0.3), (0.1, -0.01)], 0.05)
    assert curve is not None
    grid = np.linspace(0.0, 1.0, 30).tolist()
    drops = [curve(x) for x in grid]
    assert drops == sorted(drops)
    for passing in (None, (0.1, 0.02)):
        chances = [curve.chance(x, 0.05, passing) for x in grid if x >= 0.1]
        assert chances == sorted(chances, reverse=True)
    assert fit_curve([(0.0, 0.1)], 0.05) is None
    assert fit_curve([(1.0, 0.0)], 0.05) is None


class TestBracket(StrategySuite):
    def strategy(self) -> Strategy:
        return get_strategy("bracket")


class TestGreedy:
    """One op at a time can neither be fast nor give anything back; the rest of the suite holds."""

    class _Suite(StrategySuite):
        def strategy(self) -> Strategy:
            return get_strategy("greedy")

    def test_it_conforms_where_it_can(self) -> None:
        suite = self._Suite()
        suite.test_it_ends_and_proposes_only_what_it_may()
        suite.test_replaying_the_trials_gives_the_same_proposals()
        suite.test_no_candidate_is_proposed_twice()
