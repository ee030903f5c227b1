"""On which ops int8 pays, measured: whole variants of the model against the float model, in turns.

Timing single kernels would miss what a conversion at the border of an op costs, so whole models are compared. Ops are
tried by families, because ops of one kind and similar size behave alike, and a handful of variants is enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.graph import Graph, OpKind
from maxdrop.data.plan import Candidate
from maxdrop.data.protocols import Backend
from maxdrop.data.schema import Frozen
from maxdrop.data.spec import Precision
from maxdrop.ptq.build import Planner
from maxdrop.ptq.payoff import choose_int8
from maxdrop.ptq.sums import may_have_integer_sums
from maxdrop.search.forecast import NOTHING_TIMED, Timings
from maxdrop.search.speed import Comparison, compare

_FAMILIES = {
    OpKind.CONVOLUTION: "dense",
    OpKind.CONV_TRANSPOSE: "dense",
    OpKind.MATMUL: "dense",
    OpKind.DEPTHWISE_CONVOLUTION: "depthwise",
    OpKind.GROUP_CONVOLUTION: "grouped",
}
_BLOCKS = 8
_ROUNDS = 4
"""Most rounds of blocks; each compiles anew, as one compilation can be some percent off for as long as it lives."""

_NARROW = 0.1
"""Width of an interval that decides."""

_BLURRED = "measured: other work on this machine left it open what pays, so the target table decided"

_CLEAR = 1.05
"""Speed-up from which a single round may decide."""

_REGRET = 0.03
"""By how much another choice may still be faster when two compilations of each have been timed."""

_WORTH = 1.05
"""Speed-up below which int8 is not worth its error: so little turns into a loss with other inputs or another load."""

_SUMS_WORTH = 1.02
"""Speed-up, at the least, for which residual additions may read integers on both sides; they cost some error."""

_SUMS_ROUNDS = 2
"""Most compilations of both models that are compared for that."""

_TIE = 0.01
"""Variants whose speed-ups differ by less than this are equally fast; the one with fewer int8 ops is taken."""


class Variant(Frozen):
    """One measured choice of int8 ops.

    Attributes:
        name: of the families that are int8.
        ops: the ops that are int8.
        speedup: over the float model, to two decimals.
        interval: 95 % interval of the speed-up.
        seconds: median time of an inference.
        float_seconds: the same of the float model.
    """

    name: str
    ops: tuple[str, ...]
    speedup: float
    interval: tuple[float, float]
    seconds: float
    float_seconds: float


class Payoff(Frozen):
    """What was measured, and what follows.

    Attributes:
        variants: all that was compared.
        unprofitable: ops that are better left float, each with the reason.
        integer_sums: whether residual additions are faster with integers on both sides.
    """

    variants: tuple[Variant, ...]
    unprofitable: dict[str, str]
    integer_sums: bool = False

    @property
    def is_certain(self) -> bool:
        """Whether the intervals are narrow enough for another measurement to decide the same."""
        return all(high - low <= 2 * _NARROW for low, high in (v.interval for v in self.variants))

    def speed_of(self, ops: Sequence[str]) -> Comparison | None:
        """How fast the model is with just these ops in int8, without any the float model.

        None where it was not timed so, or not for certain.
        """
        if not ops and self.variants:
            seconds = self.variants[0].float_seconds
            return Comparison(seconds, seconds, 1.0, (1.0, 1.0))
        timed = next((v for v in self.variants if set(v.ops) == set(ops)), None)
        if timed is None or not self.is_certain or self.integer_sums:  # these have the product of two measurements
            return None
        return Comparison(timed.float_seconds, timed.seconds, timed.speedup, timed.interval)


def measure_payoff(
    planner: Planner, backend: Backend[Any], model: Any, config: Mapping[str, Any], samples: Sequence[Any]
) -> Payoff:
    """Find the fastest choice of families; none of them if none is worth it.

    Where other work on the machine blurs the clock so much that nothing is certain, the target table decides.

    Args:
        planner: whose `int8_ops` may become int8.
        backend: of the model.
        model: the float model.
        config: the user's compile configuration.
        samples: what is run; those of different sizes in turns.
    """
    families = _families(planner.graph, planner.int8_ops)
    tried = _measure(_unions(families), planner, backend, model, config, samples)
    if _is_blurred(tried):
        by_table = choose_int8(planner.graph, planner.policy.model_copy(update={"placement": "table"}))[1]
        return Payoff(
            variants=tuple(tried),
            unprofitable={op: f"{_BLURRED}; {by_table[op]}" for op in planner.int8_ops if op in by_table},
        )
    best = _best(tried)
    if best is None and families:
        tried += _measure(_parts(planner.graph, families), planner, backend, model, config, samples)
        best = _best(tried)
    kept = set(best.ops) if best is not None else set()
    reasons = {op: _reason(name, tried, best) for name, ops in families.items() for op in ops if op not in kept}
    gain = _gain_of_sums(best, planner, backend, model, config, samples) if best is not None else None
    if best is not None and gain is not None:
        low, high = gain.interval
        tried.append(
            Variant(
                name=f"{best.name}, integer sums",
                ops=best.ops,
                speedup=round(best.speedup * gain.speedup, 2),
                interval=(round(best.speedup * low, 2), round(best.speedup * high, 2)),
                seconds=best.seconds / gain.speedup,
                float_seconds=best.float_seconds,
            )
        )
    return Payoff(
        variants=tuple(tried),
        unprofitable={op: reasons[op] for op in planner.int8_ops if op in reasons},
        integer_sums=gain is not None and gain.interval[0] >= _SUMS_WORTH,
    )


def count_timings(graph: Graph, ops: Sequence[str]) -> Timings:
    """How many models `measure_payoff` times, so that its cost can be forecast before anything is known."""
    families = _families(graph, ops)
    models, more = 1 + len(_unions(families)), 1 + len(_parts(graph, families))
    summed = 2 * _SUMS_ROUNDS if may_have_integer_sums(graph, ops) else 0
    most = _ROUNDS * (models + more) + summed
    return Timings(models, _ROUNDS * models + summed, most, _BLOCKS) if families else NOTHING_TIMED


def _families(graph: Graph, ops: Sequence[str]) -> dict[str, list[str]]:
    """Ops by family, the family with the most work first."""
    found: dict[str, list[str]] = {}
    for op in ops:
        found.setdefault(_FAMILIES.get(graph.node(op).kind, "other"), []).append(op)
    work = {name: sum(graph.node(op).macs for op in members) for name, members in found.items()}
    return dict(sorted(found.items(), key=lambda item: (-work[item[0]], item[0])))


def _unions(families: dict[str, list[str]]) -> dict[str, list[str]]:
    """The first family, the first two, the first three, ..."""
    names = list(families)
    return {"+".join(names[:n]): [op for f in names[:n] for op in families[f]] for n in range(1, len(names) + 1)}


def _parts(graph: Graph, families: dict[str, list[str]]) -> dict[str, list[str]]:
    """The other families alone, and the ops that do the most work, in case int8 pays on these only."""
    ops = sorted((op for members in families.values() for op in members), key=lambda op: -graph.node(op).macs)
    shares = {"largest half": len(ops) // 2, "largest fifth": len(ops) // 5}
    largest = {name: ops[:count] for name, count in shares.items() if count}
    return {**{name: families[name] for name in list(families)[1:]}, **largest}


def _measure(
    variants: Mapping[str, Sequence[str]],
    planner: Planner,
    backend: Backend[Any],
    model: Any,
    config: Mapping[str, Any],
    samples: Sequence[Any],
) -> list[Variant]:
    models = [model, *(backend.apply(model, planner(_only(planner, ops)), planner.arrays) for ops in variants.values())]
    blocks = np.empty((len(models), 0))
    found: list[Comparison] = []
    for _ in range(_ROUNDS):
        blocks = np.concatenate([blocks, backend.latency(models, config, samples, _BLOCKS)], axis=1)
        found = [compare(blocks[0], row) for row in blocks[1:]]
        if _is_decided(found, blocks[1:]):
            break
    order = {op: i for i, op in enumerate(planner.int8_ops)}
    return [
        Variant(
            name=name,
            ops=tuple(sorted(ops, key=order.__getitem__)),
            speedup=round(c.speedup, 2),
            interval=(round(c.interval[0], 2), round(c.interval[1], 2)),
            seconds=c.seconds,
            float_seconds=c.float_seconds,
        )
        for (name, ops), c in zip(variants.items(), found, strict=True)
    ]


def _gain_of_sums(
    best: Variant,
    planner: Planner,
    backend: Backend[Any],
    model: Any,
    config: Mapping[str, Any],
    samples: Sequence[Any],
) -> Comparison | None:
    """The time of `best` over its time with integers on both sides of residual additions; None where there are none."""
    if not may_have_integer_sums(planner.graph, best.ops):
        return None
    summed = planner.with_policy(planner.policy.model_copy(update={"integer_sums": True}))
    plans = [each(_only(planner, best.ops)) for each in (planner, summed)]
    if len(plans[0].quantizers) == len(plans[1].quantizers):
        return None
    models = [backend.apply(model, plan, planner.arrays) for plan in plans]
    blocks = np.empty((len(models), 0))
    for _ in range(_SUMS_ROUNDS):
        blocks = np.concatenate([blocks, backend.latency(models, config, samples, _BLOCKS)], axis=1)
        low, high = compare(blocks[0], blocks[1]).interval
        if low >= _CLEAR or high < _SUMS_WORTH:
            break
    return compare(blocks[0], blocks[1])


def _only(planner: Planner, ops: Sequence[str]) -> Candidate:
    """The candidate in which these ops are int8, and no others."""
    return Candidate().with_precision(dict.fromkeys(set(planner.int8_ops) - set(ops), Precision.FLOAT))


def _is_decided(found: Sequence[Comparison], blocks: NDArray[np.float64]) -> bool:
    """Whether the intervals are narrow, or no choice is worth it, or the best one clearly is and little can be missed.

    Args:
        found: each choice against the float model.
        blocks: seconds of each choice, (choices, blocks).
    """
    if all(c.interval[1] - c.interval[0] <= _NARROW or c.interval[1] < _WORTH for c in found):
        return True
    low, best = max((c.interval[0], i) for i, c in enumerate(found))
    if low < _CLEAR:
        return False
    if all(c.interval[1] < low for i, c in enumerate(found) if i != best):
        return True
    if blocks.shape[1] < 2 * _BLOCKS:
        return False
    top = max(range(len(found)), key=lambda i: found[i].speedup)
    return all(compare(blocks[top], row).interval[1] <= 1.0 + _REGRET for i, row in enumerate(blocks) if i != top)


def _is_blurred(tried: Sequence[Variant]) -> bool:
    """Whether it is open if the fastest choice is faster than the float model at all."""
    return bool(tried) and max(v.interval[0] for v in tried) < 1.0 <= max(v.interval[1] for v in tried) - _NARROW


def _best(tried: Sequence[Variant]) -> Variant | None:
    top = max((v.speedup for v in tried), default=0.0)
    if top < _WORTH:
        return None
    return min((v for v in tried if v.speedup >= top - _TIE), key=lambda v: (len(v.ops), v.name))


def _reason(family: str, tried: Sequence[Variant], best: Variant | None) -> str:
    if best is None:
        top = max(v.speedup for v in tried)
        return f"measured: no choice of int8 ops makes this model faster here (the best ran at {top:.2f}x)"
    others = [v for v in tried if family in v.name.split("+")]
    own = max((v.speedup for v in others), default=best.speedup)
    return f"measured: with int8 on {family} ops {own:.2f}x as fast as float, without {best.speedup:.2f}x"
