"""Quantizers of activations: their places, forms and factors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.graph import Node
from maxdrop.data.plan import Quantizer
from maxdrop.data.spec import QuantizerSpec, QuantParams
from maxdrop.ptq.activation_range import activation_params, estimator_of
from maxdrop.ptq.basis import Basis, data_inputs
from maxdrop.ptq.output_error import reader_of
from maxdrop.ptq.payoff import target_row
from maxdrop.ptq.placement import Slot, place
from maxdrop.ptq.skips import skip_uses
from maxdrop.ptq.smooth_quant import alphas_of, channel_axis, choose_factors, demand_of

F32 = NDArray[np.float32]

SHARE_RATIO = 4.0
"""Branches of a Concat share parameters when their ranges differ by less than this factor."""


def activation_quantizers(basis: Basis, int8: Iterable[str]) -> list[Quantizer]:
    """Quantizers of all that these ops read as data."""

    def may_share(values: Sequence[str]) -> bool:
        known = [basis.statistics[v] for v in values if v in basis.statistics]
        reach = [max(abs(float(s.sample_min.min())), abs(float(s.sample_max.max()))) for s in known]
        return len(known) == len(values) and max(reach) < SHARE_RATIO * max(min(reach), 1e-30)

    def per_channel(node: Node) -> bool:
        row = target_row(node, basis.policy)
        if row is None or not row.per_channel_activations:
            return False
        return bool(basis.policy.at(data_inputs(node)).activations.per_channel)

    wanted = set(int8)
    groups: dict[str, list[Slot]] = {}
    for slot in place(basis.graph, wanted, may_share, per_channel):
        groups.setdefault(slot.group, []).append(slot)
    return [quantizer for slots in groups.values() for quantizer in _of_group(basis, slots, wanted)]


def by_reader(activations: Iterable[Quantizer]) -> dict[str, Quantizer]:
    """The quantizer that each op reads; of a product of two activations the later one."""
    return {use.node: quantizer for quantizer in activations for use in quantizer.serves}


def usual_activations(basis: Basis) -> dict[str, Quantizer]:
    """The quantizers that the ops read when all of them are int8, by op."""
    key = ("usual", basis.policy.model_dump_json(), basis.int8_ops)
    return basis.remember(key, lambda: by_reader(activation_quantizers(basis, basis.int8_ops)))


def _of_group(basis: Basis, slots: list[Slot], int8: set[str]) -> list[Quantizer]:
    measured = tuple(sorted({value for slot in slots for value in slot.measured}))
    serves = [basis.graph.node(use.node) for slot in slots for use in slot.serves]
    spec = _spec(basis, slots, serves, measured)
    factors = _factors(basis, slots, spec, measured)
    readers = tuple(node.name for node in basis.int8_readers(measured[0]))
    key = ("activation", measured, spec, id(factors), estimator_of(basis, measured), readers)
    params = basis.remember(key, lambda: activation_params(basis, measured, spec, factors))
    if factors is not None:
        spec = spec.model_copy(update={"smooth_axis": channel_axis(serves[0])})
    whole = factors is None and not spec.axes
    return [
        Quantizer(
            id=slot.value if not slot.per_channel else slot.group,
            value=slot.value,
            uses=slot.uses + (skip_uses(basis, slot.value, spec, params, int8) if whole else ()),
            serves=slot.serves,
            constant=False,
            spec=spec,
            params=params,
            group=slot.group,
        )
        for slot in slots
    ]


def _spec(basis: Basis, slots: list[Slot], serves: list[Node], measured: tuple[str, ...]) -> QuantizerSpec:
    slot, wishes = slots[0], basis.policy.at(measured).activations
    # The second operand of a product takes the place of the weights, which the int8 kernels want signed.
    right_operand = any(use.index == 1 for each in slots for use in each.serves)
    rows = [target_row(node, basis.policy) for node in serves]
    legal = all(row is not None and "asymmetric" in row.legal for row in rows)
    symmetric = not legal if wishes.symmetric is None else wishes.symmetric or not legal
    lowest = min(float(basis.statistics[v].sample_min.min()) for v in measured)
    signed = lowest < 0.0 if wishes.signed is None else wishes.signed
    signed = signed or right_operand
    contraction = serves[0].contraction
    axes = (contraction.channel_axes[0],) if slot.per_channel and contraction else ()
    if not signed:
        return QuantizerSpec(dtype="uint8", axes=axes)
    if symmetric:
        return QuantizerSpec(dtype="int8", axes=axes, narrow_range=wishes.narrow_range)
    return QuantizerSpec(dtype="uint8", symmetric=False, axes=axes)


def _factors(basis: Basis, slots: list[Slot], spec: QuantizerSpec, measured: tuple[str, ...]) -> F32 | None:
    """Factors of SmoothQuant, the same for every candidate; None where there are none."""
    slot = slots[0]
    if len(slots) > 1 or slot.per_channel or set(slot.uses) != set(slot.serves):
        return None
    nodes = basis.int8_readers(slot.value)
    alphas = alphas_of(nodes, basis.policy.at(measured))
    readers = tuple((node.name, basis.weight_spec(node)) for node in nodes)
    key = ("factors", slot.value, spec, alphas, estimator_of(basis, measured), readers)
    return basis.remember(key, lambda: _choose_factors(basis, slot.value, spec, nodes, alphas))


def _choose_factors(
    basis: Basis, value: str, spec: QuantizerSpec, nodes: list[Node], alphas: tuple[float, ...]
) -> F32 | None:
    if not alphas:
        return None
    statistics = basis.statistics.along(value, channel_axis(nodes[0]))
    readers = [reader_of(basis.graph, node, basis.weight_spec(node)) for node in nodes]
    if any(len(reader.weight) != statistics.rows.shape[1] for reader in readers):
        return None

    def params_of(factors: F32 | None) -> QuantParams:
        return activation_params(basis, (value,), spec, factors)

    return choose_factors(statistics, readers, spec, params_of, alphas, demand_of(basis.graph, value, nodes))
