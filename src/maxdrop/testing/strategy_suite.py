"""What every search strategy must do. Subclass `StrategySuite` in a test module and give `strategy`.

The strategies meet simulated models: a drop is a function of the set of reverted ops, so that thousands of searches
run in a second and the right answers are known.
"""

# ruff: noqa: D102 - the names of the tests say what they hold

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log2

import numpy as np

from maxdrop.data.plan import Candidate
from maxdrop.data.spec import Precision
from maxdrop.data.trace import Trial
from maxdrop.search.criterion import Criterion
from maxdrop.search.loop import best_passing
from maxdrop.search.space import Proposal, SearchSpace, Strategy

Floats = frozenset[str]


@dataclass(frozen=True)
class Simulation:
    """A made-up model.

    Attributes:
        name: for messages.
        space: what the strategy is told.
        criterion: the limit.
        drop: what the user's function would measure with these ops reverted.
        monotone: reverting one more op never increases the drop.
    """

    name: str
    space: SearchSpace
    criterion: Criterion
    drop: Callable[[Floats], float]
    monotone: bool

    def passes(self, floats: Floats) -> bool:
        """Whether reverting `floats` is enough."""
        return self.criterion.passes(self.drop(floats))

    @property
    def reachable(self) -> bool:
        """Whether some candidate with at least one int8 op passes; known for monotone drops only."""
        everything = frozenset(self.space.ops)
        return any(self.passes(everything - {op}) for op in self.space.ops)


@dataclass(frozen=True)
class Search:
    """One run of a strategy: what it proposed, and what came of it."""

    proposals: list[Proposal]
    trials: list[Trial]

    def first_passing(self, simulation: Simulation) -> int:
        """How many proposals it took to the first one that passes."""
        passing = [i for i, p in enumerate(self.proposals) if simulation.passes(frozenset(p.candidate.precisions))]
        return passing[0] + 1 if passing else len(self.proposals)

    def answer(self, simulation: Simulation) -> Floats | None:
        """Ops that the best passing candidate reverts."""
        best = best_passing(self.trials, simulation.space, simulation.criterion)
        return None if best is None or best.candidate is None else frozenset(best.candidate.precisions)


def search(strategy: Strategy, simulation: Simulation, seconds: float = 0.0) -> Search:
    """Run `strategy` to its end; more than N^2 + 50 proposals count as endless."""
    done = Search([], [])
    limit = len(simulation.space.ops) ** 2 + 50
    steps = strategy(simulation.space, simulation.criterion)
    try:
        proposal = next(steps)
        while True:
            done.proposals.append(proposal)
            assert len(done.proposals) <= limit, f"{simulation.name}: no end after {limit} proposals"
            trial = Trial(
                number=len(done.trials) + 2,
                role=proposal.role,
                candidate=proposal.candidate,
                plan_key=proposal.candidate.key(),
                metric=1.0 - simulation.drop(frozenset(proposal.candidate.precisions)),
                drop=simulation.drop(frozenset(proposal.candidate.precisions)),
                seconds=seconds,
            )
            done.trials.append(trial)
            proposal = steps.send(trial)
    except StopIteration:
        return done


def additive(count: int, seed: int, max_drop: float, known: float = 0.5, equal_gains: bool = False) -> Simulation:
    """Every int8 op costs a fixed part of the metric, a few of them most of it.

    Args:
        count: number of ops.
        seed: of all that is random.
        max_drop: as a share of the drop of the fully quantized model.
        known: how far the sensitivities are off, as the sigma of a lognormal factor; 0 for exact.
        equal_gains: whether all ops take equal time.
    """
    rng = np.random.default_rng(seed)
    ops = [f"op{i}" for i in range(count)]
    costs = dict(zip(ops, (rng.pareto(1.2, count) + 1e-3).tolist(), strict=True))
    gains = np.ones(count) if equal_gains else rng.uniform(0.1, 1.0, count)
    told = np.array([costs[op] for op in ops]) * np.exp(known * rng.normal(size=count))

    def drop(floats: Floats) -> float:
        return float(sum(costs[op] for op in ops if op not in floats))

    space = SearchSpace(
        ops=tuple(ops),
        sensitivity=dict(zip(ops, told.tolist(), strict=True)),
        gain=dict(zip(ops, (gains / gains.sum()).tolist(), strict=True)),
        reverted=Precision.FLOAT,
        int8_drop=drop(frozenset()),
    )
    name = f"additive, {count} ops, seed {seed}, limit {max_drop}"
    return Simulation(name, space, Criterion(max_drop=max_drop * space.int8_drop), drop, monotone=True)


def plateaus(count: int, seed: int, max_drop: float) -> Simulation:
    """The worst op masks all others, and the metric moves in steps."""
    plain = additive(count, seed, max_drop)

    def drop(floats: Floats) -> float:
        left = [plain.drop(frozenset(plain.space.ops) - {op}) for op in plain.space.ops if op not in floats]
        return float(np.ceil(20.0 * max(left, default=0.0) / plain.space.int8_drop)) / 20.0

    return _changed(plain, "plateaus", drop, max_drop, monotone=True)


def noisy(count: int, seed: int, max_drop: float) -> Simulation:
    """Every candidate's drop is off by a fixed amount of its own."""
    plain = additive(count, seed, max_drop)

    def drop(floats: Floats) -> float:
        key = int(Candidate(precisions=dict.fromkeys(floats, Precision.FLOAT)).key(), 16)
        noise = np.random.default_rng([seed, key]).normal(0.0, 0.05)
        return plain.drop(floats) / plain.space.int8_drop + float(noise)

    return _changed(plain, "noisy", drop, max_drop, monotone=False)


def unreachable(count: int, seed: int) -> Simulation:
    """One int8 op is enough to lose everything."""
    return _changed(
        additive(count, seed, 0.5),
        "unreachable",
        lambda floats: 1.0 if len(floats) < count else 0.0,
        0.01,
        monotone=True,
    )


def _changed(
    plain: Simulation, name: str, drop: Callable[[Floats], float], max_drop: float, monotone: bool
) -> Simulation:
    told = plain.space
    space = SearchSpace(told.ops, told.sensitivity, told.gain, told.reverted, drop(frozenset()))
    return Simulation(f"{name}: {plain.name}", space, Criterion(max_drop=max_drop), drop, monotone)


def simulations() -> list[Simulation]:
    """Models of all kinds and sizes; the fully quantized model fails in each of them."""
    found = [additive(count, 0, limit) for count in (1, 2, 3) for limit in (0.3, 0.0)]
    for seed in range(6):
        for limit in (0.6, 0.1, 0.01):
            found.append(additive(40, seed, limit))
            found.append(additive(17, seed, limit, known=3.0))
            found.append(plateaus(30, seed, limit))
            found.append(noisy(30, seed, limit))
        found += [additive(25, seed, 0.0), plateaus(25, seed, 0.0), unreachable(20, seed)]
    return [simulation for simulation in found if not simulation.passes(frozenset())]


class StrategySuite:
    """Conformance tests; pytest collects those of a subclass whose name begins with "Test"."""

    def strategy(self) -> Strategy:
        """The strategy to be tested."""
        raise NotImplementedError

    def test_it_ends_and_proposes_only_what_it_may(self) -> None:
        for simulation in simulations():
            for proposal in search(self.strategy(), simulation).proposals:
                precisions = proposal.candidate.precisions
                assert set(precisions) <= set(simulation.space.ops), simulation.name
                assert set(precisions.values()) <= {simulation.space.reverted}, simulation.name

    def test_replaying_the_trials_gives_the_same_proposals(self) -> None:
        """Whatever the clock says: a resumed search must go the same way."""
        for simulation in simulations():
            first = search(self.strategy(), simulation)
            assert search(self.strategy(), simulation, seconds=3.0).proposals == first.proposals, simulation.name

    def test_no_candidate_is_proposed_twice(self) -> None:
        """Nor the fully quantized model, which the caller has seen fail."""
        for simulation in simulations():
            keys = [proposal.candidate.key() for proposal in search(self.strategy(), simulation).proposals]
            assert len(set(keys)) == len(keys), simulation.name
            assert Candidate().key() not in keys, simulation.name

    def test_something_passing_is_found_where_there_is_something(self) -> None:
        for simulation in simulations():
            if simulation.monotone:
                answer = search(self.strategy(), simulation).answer(simulation)
                partial = answer is not None and len(answer) < len(simulation.space.ops)
                assert partial == simulation.reachable, simulation.name

    def test_nothing_in_the_answer_is_float_in_vain(self) -> None:
        """1-minimal: with any one of the reverted ops quantized again, the limit is broken."""
        for simulation in simulations():
            answer = search(self.strategy(), simulation).answer(simulation) if simulation.monotone else None
            for op in answer or ():
                assert not simulation.passes((answer or frozenset()) - {op}), (simulation.name, op)

    def test_exact_knowledge_gives_the_best_answer(self) -> None:
        """With exact sensitivities and equal gains, the fewest ops are the most sensitive ones."""
        for seed in range(10):
            simulation = additive(60, seed, 0.1, known=0.0, equal_gains=True)
            order = sorted(simulation.space.ops, key=lambda op: -simulation.space.sensitivity[op])
            fewest = next(i for i in range(len(order)) if simulation.passes(frozenset(order[:i])))
            answer = search(self.strategy(), simulation).answer(simulation)
            assert answer is not None, simulation.name
            assert len(answer) == fewest, simulation.name

    def test_a_passing_candidate_is_found_in_logarithmic_time(self) -> None:
        for count in (20, 100, 500):
            for seed in range(4):
                simulation = additive(count, seed, 0.2)
                found = search(self.strategy(), simulation)
                assert found.first_passing(simulation) <= 2 * log2(count) + 4, simulation.name

    def test_the_whole_search_costs_little_more_than_its_answer_is_long(self) -> None:
        """Log N to find the number of ops, and a few trials for each to show that it is needed."""
        for count in (20, 100):
            for seed in range(4):
                simulation = additive(count, seed, 0.2)
                found = search(self.strategy(), simulation)
                answer = found.answer(simulation) or frozenset()
                allowed = 2 * log2(count) + 4 * len(answer) + 10
                assert len(found.proposals) <= allowed, simulation.name
