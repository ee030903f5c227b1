"""What int8 pays on, with the real models and a clock that is told what to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

from maxdrop.backends.openvino.backend import OpenVINOBackend
from maxdrop.data.plan import Candidate
from maxdrop.data.spec import Policy
from maxdrop.preparation import keep_what_pays
from maxdrop.ptq.build import Planner
from maxdrop.search.payoff import Payoff, measure_payoff
from maxdrop.search.speed import Comparison
from tests.graphs import convolutions
from tests.graphs.check import planner_for
from tests.ptq import test_sums
from tests.test_placement import images

Clock = Callable[[int, bool, bool], float]
"""(number of the block, whether dense ops are int8, whether depthwise ops are) to seconds."""


class Told(OpenVINOBackend):
    """The OpenVINO backend, whose latencies are made up."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.rounds = 0

    def latency(
        self, models: Sequence[ov.Model], config: Mapping[str, Any], samples: Sequence[Any], blocks: int
    ) -> NDArray[np.float64]:
        self.rounds += 1
        forms = [_int8(model) for model in models]
        numbers = range((self.rounds - 1) * blocks, self.rounds * blocks)
        return np.array([[self.clock(number, *form) for number in numbers] for form in forms])


def _int8(model: ov.Model) -> tuple[bool, bool]:
    """Whether any dense convolution, and whether any depthwise one, reads int8 codes."""
    kinds = set()
    for node in model.get_ops():
        if "Convolution" in node.get_type_name():
            stored = any("/int8" in above.get_friendly_name() for above in _above(node.input_value(1).get_node()))
            kinds.add((node.get_type_name(), stored))
    return ("Convolution", True) in kinds, ("GroupConvolution", True) in kinds


def _above(node: Any) -> list[Any]:
    return [node, *(each for port in node.input_values() for each in _above(port.get_node()))]


def planner() -> tuple[ov.Model, Planner]:
    model = convolutions.depthwise_pointwise()
    return model, planner_for(model, images(4), Policy(placement="measured"))


def found(clock: Clock) -> tuple[Payoff, Planner, int]:
    model, plans = planner()
    backend = Told(clock)
    return measure_payoff(plans, backend, model, {}, images(1)), plans, backend.rounds


def kinds_of(plans: Planner, ops: Sequence[str]) -> set[str]:
    return {plans.graph.node(op).kind.name for op in ops}


def test_the_fastest_families_are_kept_and_a_clear_case_takes_one_round() -> None:
    payoff, plans, rounds = found(lambda _, dense, depthwise: 1.0 - 0.3 * dense + 0.2 * depthwise)
    assert kinds_of(plans, list(payoff.unprofitable)) == {"DEPTHWISE_CONVOLUTION"}
    assert rounds == 1
    assert all("0.7" in reason or "1.43" in reason for reason in payoff.unprofitable.values())
    everything, _, _ = found(lambda _, dense, depthwise: 1.0 - 0.3 * dense - 0.2 * depthwise)
    assert everything.unprofitable == {}


def test_the_speed_of_what_was_timed_is_remembered() -> None:
    payoff, plans, _ = found(lambda _, dense, depthwise: 1.0 - 0.3 * dense + 0.2 * depthwise)
    dense = [op for op in plans.int8_ops if op not in payoff.unprofitable]
    assert payoff.speed_of(dense) == Comparison(1.0, 0.7, 1.43, (1.43, 1.43))
    assert payoff.speed_of([]) == Comparison(1.0, 1.0, 1.0, (1.0, 1.0))
    assert payoff.speed_of(dense[:1]) is None
    assert payoff.model_copy(update={"integer_sums": True}).speed_of(dense) is None
    assert Payoff(variants=(), unprofitable={}).speed_of([]) is None


def test_nothing_stays_int8_where_no_choice_is_faster() -> None:
    payoff, plans, _ = found(lambda _, dense, depthwise: 1.0 + 0.3 * dense + 0.2 * depthwise)
    assert set(payoff.unprofitable) == set(plans.int8_ops)
    assert "depthwise" in {variant.name for variant in payoff.variants}


def test_what_is_clearly_slower_is_not_measured_again_however_unsteady() -> None:
    noise = np.random.default_rng(0).uniform(0.2, 1.0, 1000)
    payoff, plans, rounds = found(lambda number, dense, depthwise: 1.0 if dense or depthwise else float(noise[number]))
    assert set(payoff.unprofitable) == set(plans.int8_ops)
    assert not payoff.is_certain
    assert rounds == 2  # the families, and then parts of them


def test_a_family_that_pays_alone_is_found() -> None:
    payoff, plans, _ = found(lambda _, dense, depthwise: 1.0 + 0.6 * dense - 0.3 * depthwise)
    assert kinds_of(plans, list(payoff.unprofitable)) == {"CONVOLUTION"}


def test_the_table_decides_where_the_clock_cannot() -> None:
    noise = np.random.default_rng(1).lognormal(0.0, 0.5, 10_000)
    calls = iter(noise)
    payoff, plans, rounds = found(lambda *_: float(next(calls)))
    assert rounds > 1
    assert kinds_of(plans, list(payoff.unprofitable)) == {"DEPTHWISE_CONVOLUTION"}
    assert all("target table" in reason for reason in payoff.unprofitable.values())
    assert not payoff.is_certain
    kept = [op for op in plans.int8_ops if op not in payoff.unprofitable]
    assert kept in [list(variant.ops) for variant in payoff.variants]
    assert payoff.speed_of(kept) is None


@pytest.mark.parametrize("gain", [1.1, 1.5, 4.0])
def test_a_steady_clock_is_believed(gain: float) -> None:
    payoff, plans, _ = found(lambda _, dense, depthwise: 1.0 / gain if dense and depthwise else 1.0)
    assert payoff.unprofitable == {}
    assert payoff.is_certain
    assert max(variant.speedup for variant in payoff.variants) == pytest.approx(gain, abs=0.01)
    assert plans.int8_ops


def _with_unsteady_float(both: float, spread: float) -> Clock:
    """Where float wavers by a third and int8 by `spread`; with depthwise ops in int8 too, the model takes `both`."""
    noise = np.random.default_rng(0).uniform(-1.0, 1.0, (3, 1000))

    def clock(number: int, dense: bool, depthwise: bool) -> float:
        if not dense:
            return 1.5 + 0.5 * float(noise[0, number])
        return (both if depthwise else 0.7) * (1.0 + spread * float(noise[1 + depthwise, number]))

    return clock


def test_two_compilations_settle_what_makes_no_difference() -> None:
    payoff, _, rounds = found(_with_unsteady_float(both=0.69, spread=0.001))
    assert rounds == 2
    assert max(variant.speedup for variant in payoff.variants) > 1.5


def test_measuring_goes_on_while_another_choice_may_be_faster() -> None:
    _, _, rounds = found(_with_unsteady_float(both=0.69, spread=0.2))
    assert rounds > 2


class ToldOfSums(Told):
    """A model with more quantizers than the one before it takes `gain` times less."""

    def __init__(self, gain: float) -> None:
        super().__init__(lambda _, dense, depthwise: 1.0 - 0.3 * dense)
        self.gain = gain

    def latency(
        self, models: Sequence[ov.Model], config: Mapping[str, Any], samples: Sequence[Any], blocks: int
    ) -> NDArray[np.float64]:
        times = super().latency(models, config, samples, blocks)
        counts = [sum(node.get_type_name() == "FakeQuantize" for node in model.get_ops()) for model in models]
        if all(counts) and len(set(counts)) > 1:
            times[int(np.argmax(counts))] /= self.gain
        return times


@pytest.mark.parametrize(
    ("gain", "pays", "rounds"), [(1.1, True, 1), (1.03, True, 2), (1.01, False, 1), (0.9, False, 1)]
)
def test_integer_sums_are_taken_where_they_are_faster(gain: float, pays: bool, rounds: int) -> None:
    model = test_sums.bottleneck()
    plans = planner_for(model, test_sums.SAMPLES, Policy(placement="measured"))
    backend = ToldOfSums(gain)
    payoff = measure_payoff(plans, backend, model, {}, test_sums.SAMPLES[:1])
    assert backend.rounds == 1 + rounds  # one that chose the families
    assert payoff.integer_sums is pays
    assert payoff.variants[-1].name.endswith("integer sums")
    assert payoff.variants[-1].speedup == pytest.approx(gain / 0.7, abs=0.02)
    kept = keep_what_pays(plans, payoff)
    assert bool(test_sums.sums(kept(Candidate()))) is pays
