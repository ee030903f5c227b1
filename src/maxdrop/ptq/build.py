"""`make_plan`: graph, policy, statistics and candidate to a plan. Pure, and it runs no inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.graph import Contraction, Graph, Node, OpKind
from maxdrop.data.plan import ArrayRef, Arrays, BiasShift, Candidate, QuantizationPlan, Quantizer, UseRef
from maxdrop.data.spec import EstimatorSpec, Form, Policy, Precision, QuantizerSpec, QuantParams
from maxdrop.data.statistics import Statistics, TensorStatistics, merge_ranges
from maxdrop.errors import InternalError, ValidationError
from maxdrop.ptq.bias_correction import closed_form_shift, relative_shift
from maxdrop.ptq.numerics import dequantize, params_from_range, weight_codes
from maxdrop.ptq.output_error import reader_of
from maxdrop.ptq.outputs import output_quantizers
from maxdrop.ptq.payoff import choose_int8, is_first_layer, target_row
from maxdrop.ptq.placement import Slot, place
from maxdrop.ptq.ranges import get_estimator
from maxdrop.ptq.rounding import rounded_weight
from maxdrop.ptq.smooth_quant import (
    alphas_of,
    channel_axis,
    choose_factors,
    demand_of,
    smoothed_statistics,
    with_factors,
)
from maxdrop.ptq.weights import channel_power, scaled_inputs, weight_params, weight_spec

T = TypeVar("T")
F32 = NDArray[np.float32]

SHARE_RATIO = 4.0
"""Branches of a Concat share parameters when their ranges differ by less than this factor."""

REVERTED = "accuracy control: int8 here costs more of the metric than the limit allows"
WEIGHTS_ONLY = "accuracy control: int8 weights, float activations"


class Planner:
    """Everything that stays the same from candidate to candidate, with a memory of what was computed.

    Args:
        graph: the float model.
        policy: the resolved wishes.
        statistics: of every value in `calibration_requests(graph)`.
    """

    def __init__(self, graph: Graph, policy: Policy, statistics: Statistics) -> None:
        self.graph = graph
        self.policy = policy
        self.statistics = statistics
        self.arrays = Arrays()
        chosen, self._reasons = choose_int8(graph, policy)
        self.int8_ops = [op for op in chosen if self._is_measured(op)]
        self._memo: dict[object, Any] = {}
        self._measured_shifts: Mapping[str, F32] = {}

    def without(self, unprofitable: dict[str, str]) -> Planner:
        """A planner that keeps these ops float, each for its reason, and shares what was computed so far."""
        return self._like(self.policy.model_copy(update={"unprofitable": unprofitable}), self._measured_shifts)

    def with_bias_shifts(self, measured: Mapping[str, F32]) -> Planner:
        """A planner that corrects biases by these shifts, float32 (output channels,) by op, where it has one."""
        return self._like(self.policy, measured)

    def with_policy(self, policy: Policy) -> Planner:
        """A planner with other wishes for the same statistics; measured shifts belong to the old ones."""
        return self._like(policy, {})

    def with_forms(self, tuned: Mapping[str, Form]) -> Planner:
        """A planner in which the ops that read these values do so in these forms; the other ops stay as they are."""
        kept = {
            op: shift
            for op, shift in self._measured_shifts.items()
            if not set(_data_inputs(self.graph.node(op))) & set(tuned)
        }
        return self._like(self.policy.model_copy(update={"tuned": {**self.policy.tuned, **tuned}}), kept)

    def _like(self, policy: Policy, measured: Mapping[str, F32]) -> Planner:
        other = Planner(self.graph, policy, self.statistics)
        other.arrays, other._memo, other._measured_shifts = self.arrays, self._memo, measured
        return other

    def __call__(self, candidate: Candidate) -> QuantizationPlan:
        """The plan for `candidate`; equal candidates give equal plans.

        Raises:
            ValidationError: when the candidate names an op that would not be int8 anyway.
        """
        unknown = sorted(candidate.precisions.keys() - set(self.int8_ops))
        if unknown:
            message = f"a candidate may name only ops that are int8 by default, but names {unknown}"
            raise ValidationError(message)
        precision = {op: candidate.precisions.get(op, Precision.INT8) for op in self.int8_ops}
        int8 = [op for op in self.int8_ops if precision[op] is Precision.INT8]
        slots = place(self.graph, int8, self._may_share, self._per_channel)
        activations = [q for group in _by_group(slots) for q in self._activation_quantizers(group)]
        stored = [op for op in self.int8_ops if precision[op] is not Precision.FLOAT]
        by_op = {use.node: q for q in activations for use in q.serves}
        wanted = self.policy.quantize_outputs and int8
        outputs = output_quantizers(self.graph, self.policy.activations, self.statistics) if wanted else []
        weights = [q for op in stored for q in self._weight_quantizer(op, by_op.get(op))]
        reasons = dict(self._reasons)
        reasons.update({op: REVERTED for op in self.int8_ops if precision[op] is Precision.FLOAT})
        reasons.update({op: WEIGHTS_ONLY for op in self.int8_ops if precision[op] is Precision.INT8_WEIGHTS})
        return QuantizationPlan(
            graph=self.graph.fingerprint,
            policy=self.policy,
            candidate=candidate.with_precision({}),
            quantizers=tuple(activations + weights + outputs),
            edits=tuple(self._bias_shifts(int8, by_op)),
            int8_ops=tuple(int8),
            float_ops={node.name: reasons[node.name] for node in self.graph if node.name in reasons},
        )

    def _is_measured(self, op: str) -> bool:
        """Whether finite statistics exist for every data input; otherwise notes why the op stays float."""
        node = self.graph.node(op)
        for value in _data_inputs(node):
            if value not in self.statistics:
                self._reasons[op] = f"no calibration sample reached its input {value}"
            elif not self.statistics[value].is_finite:
                self._reasons[op] = f"its input {value} held NaN or infinity during calibration"
            else:
                continue
            return False
        return True

    def _remember(self, key: object, make: Callable[[], T]) -> T:
        if key not in self._memo:
            self._memo[key] = make()
        found: T = self._memo[key]
        return found

    def _may_share(self, values: Sequence[str]) -> bool:
        known = [self.statistics[v] for v in values if v in self.statistics]
        reach = [max(abs(float(s.sample_min.min())), abs(float(s.sample_max.max()))) for s in known]
        return len(known) == len(values) and max(reach) < SHARE_RATIO * max(min(reach), 1e-30)

    def _per_channel(self, node: Node) -> bool:
        row = target_row(node, self.policy)
        if row is None or not row.per_channel_activations:
            return False
        return bool(self.policy.at(_data_inputs(node)).activations.per_channel)

    def _activation_quantizers(self, slots: list[Slot]) -> list[Quantizer]:
        measured = tuple(sorted({value for slot in slots for value in slot.measured}))
        serves = [self.graph.node(use.node) for slot in slots for use in slot.serves]
        spec = self._activation_spec(slots, serves, measured)
        factors = self._factors(slots, spec, measured)
        readers = tuple(node.name for node in self._int8_readers(measured[0]))
        key = ("activation", measured, spec, id(factors), self._estimator(measured), readers)
        params = self._remember(key, lambda: self._activation_params(measured, spec, factors))
        if factors is not None:
            spec = spec.model_copy(update={"smooth_axis": channel_axis(serves[0])})
        return [
            Quantizer(
                id=slot.value if not slot.per_channel else slot.group,
                value=slot.value,
                uses=slot.uses,
                serves=slot.serves,
                constant=False,
                spec=spec,
                params=params,
                group=slot.group,
            )
            for slot in slots
        ]

    def _activation_spec(self, slots: list[Slot], serves: list[Node], measured: tuple[str, ...]) -> QuantizerSpec:
        slot, wishes = slots[0], self.policy.at(measured).activations
        # The second operand of a product takes the place of the weights, which the int8 kernels want signed.
        right_operand = any(use.index == 1 for each in slots for use in each.serves)
        rows = [target_row(node, self.policy) for node in serves]
        legal = all(row is not None and "asymmetric" in row.legal for row in rows)
        symmetric = not legal if wishes.symmetric is None else wishes.symmetric or not legal
        lowest = min(float(self.statistics[v].sample_min.min()) for v in measured)
        signed = lowest < 0.0 if wishes.signed is None else wishes.signed
        signed = signed or right_operand
        contraction = serves[0].contraction
        axes = (contraction.channel_axes[0],) if slot.per_channel and contraction else ()
        if not signed:
            return QuantizerSpec(dtype="uint8", axes=axes)
        if symmetric:
            return QuantizerSpec(dtype="int8", axes=axes, narrow_range=wishes.narrow_range)
        return QuantizerSpec(dtype="uint8", symmetric=False, axes=axes)

    def _activation_params(self, measured: tuple[str, ...], spec: QuantizerSpec, factors: F32 | None) -> QuantParams:
        merged = merge_ranges(self._by_channel(value, spec) for value in measured)
        if spec.axes:
            return params_from_range(merged.channel_min, merged.channel_max, spec)
        importance = self._importance(measured[0]) if len(measured) == 1 else None
        if factors is not None:
            merged = smoothed_statistics(merged, factors)
            importance = None if importance is None else importance * np.square(factors)
        find_range = get_estimator(self._estimator(measured, smoothed=factors is not None), importance)
        params = params_from_range(*find_range(merged, spec), spec)
        return params if factors is None else with_factors(params, factors)

    def _by_channel(self, value: str, spec: QuantizerSpec) -> TensorStatistics:
        """Statistics of `value` with the channels that its quantizer, or its readers, have in common."""
        axes = set(spec.axes) or self._summed_axes(value)
        return self.statistics.along(value, axes.pop()) if len(axes) == 1 else self.statistics[value]

    def _summed_axes(self, value: str) -> set[int]:
        """The axes of `value` that its int8 readers sum over."""
        pairs = [
            (node.inputs[index], axis)
            for node in self._int8_readers(value)
            if node.contraction is not None
            for index, axis in zip(node.contraction.activation_inputs, node.contraction.channel_axes, strict=True)
        ]
        return {axis for read, axis in pairs if read == value}

    def _estimator(self, measured: tuple[str, ...], *, smoothed: bool = False) -> EstimatorSpec:
        """What the user wants; left to itself the package clips neither what comes from outside nor smoothed images.

        All channels of these reach the ends, at positions that no sampled row may have caught.
        """
        wanted = self.policy.at(measured).activations.estimator
        if wanted.name != "auto":
            return wanted
        nodes = [node for value in measured for node in self._int8_readers(value)]
        image = any(node.kind is not OpKind.MATMUL for node in nodes)
        outside = any(is_first_layer(self.graph, node) for node in nodes)
        return EstimatorSpec(name="minmax") if outside or (smoothed and image) else wanted

    def _importance(self, value: str) -> NDArray[np.float64] | None:
        """Energy of the weights that read each channel of `value`, float64 (C,); None where it has none."""
        readers = tuple(node.name for node in self._int8_readers(value))
        return self._remember(("importance", value, readers), lambda: self._make_importance(value))

    def _make_importance(self, value: str) -> NDArray[np.float64] | None:
        powers = [
            channel_power(self.graph.constant(node.inputs[node.contraction.weight_input]), node.contraction)
            for node in self._int8_readers(value)
            if node.contraction is not None and node.contraction.weight_input is not None
        ]
        sizes = {len(power) for power in powers}
        return np.sum(powers, axis=0) if len(sizes) == len(self._summed_axes(value)) == 1 else None

    def _int8_readers(self, value: str) -> list[Node]:
        """The ops that read `value` directly and are int8 unless a candidate says otherwise."""
        wanted = set(self.int8_ops)
        return [self.graph.node(use.node) for use in self.graph.value(value).uses if use.node in wanted]

    def _factors(self, slots: list[Slot], spec: QuantizerSpec, measured: tuple[str, ...]) -> F32 | None:
        """Factors of SmoothQuant, the same for every candidate; None where there are none."""
        slot = slots[0]
        if len(slots) > 1 or slot.per_channel or set(slot.uses) != set(slot.serves):
            return None
        nodes = self._int8_readers(slot.value)
        alphas = alphas_of(nodes, self.policy.at(measured))
        key = ("factors", slot.value, spec, alphas, self._estimator(measured), tuple(node.name for node in nodes))
        return self._remember(key, lambda: self._make_factors(slot.value, spec, nodes, alphas))

    def _make_factors(
        self, value: str, spec: QuantizerSpec, nodes: list[Node], alphas: tuple[float, ...]
    ) -> F32 | None:
        if not alphas:
            return None
        statistics = self.statistics.along(value, channel_axis(nodes[0]))
        weights = [self._weight_spec(node) for node in nodes]
        readers = [reader_of(self.graph, node, weight) for node, weight in zip(nodes, weights, strict=True)]
        if any(len(reader.weight) != statistics.rows.shape[1] for reader in readers):
            return None

        def params_of(factors: F32 | None) -> QuantParams:
            return self._activation_params((value,), spec, factors)

        return choose_factors(statistics, readers, spec, params_of, alphas, demand_of(self.graph, value, nodes))

    def _weight_spec(self, node: Node) -> QuantizerSpec:
        reduced = self.policy.reduced_range == "all" or (
            self.policy.reduced_range == "first" and is_first_layer(self.graph, node)
        )
        return weight_spec(node, self.policy.weights, reduced)

    def _weight_quantizer(self, op: str, activation: Quantizer | None) -> list[Quantizer]:
        """The quantizer of the op's constant operand, which absorbs the factors of its `activation`.

        A weight whose activation is float here (None) still has the factors: without them it may round far worse.
        """
        node = self.graph.node(op)
        if node.contraction is None or node.contraction.weight_input is None:
            return []
        index = node.contraction.weight_input
        value = node.inputs[index]
        smoother = activation or self._usual_activations().get(op)
        spec, factors = self._weight_spec(node), smoother.params.factors if smoother else ()
        if factors:
            spec = spec.model_copy(update={"smooth_axis": node.contraction.weight_channel_axis})
        params = self._remember(
            ("weight", value, spec, factors, self.policy.weights.estimator),
            lambda: self._weight_params(node, value, spec, factors),
        )
        use, name = UseRef(node=op, index=index), f"{op}:{index}"
        quantizer = Quantizer(
            id=name, value=value, uses=(use,), serves=(use,), constant=True, spec=spec, params=params, group=name
        )
        return [self._rounded(quantizer, node.contraction, activation)]

    def _usual_activations(self) -> dict[str, Quantizer]:
        """The quantizers that the ops read when all of them are int8, by op."""

        def make() -> dict[str, Quantizer]:
            slots = place(self.graph, self.int8_ops, self._may_share, self._per_channel)
            quantizers = [q for group in _by_group(slots) for q in self._activation_quantizers(group)]
            return {use.node: q for q in quantizers for use in q.serves}

        return self._remember(("usual", self.policy.model_dump_json(), tuple(self.int8_ops)), make)

    def _rounded(self, quantizer: Quantizer, contraction: Contraction, activation: Quantizer | None) -> Quantizer:
        """The same with codes of its own where these were asked for and are better than the nearest ones."""
        node = self.graph.node(quantizer.uses[0].node)
        if activation is None or self._rounding(node) == "nearest":
            return quantizer
        forms = (activation.spec, activation.params), (quantizer.spec, quantizer.params)

        def make() -> ArrayRef | None:
            statistics = self._input_statistics(node)
            codes = rounded_weight(self.graph.constant(quantizer.value), contraction, statistics, *forms)
            return None if codes is None else self.arrays.put(codes)

        return quantizer.model_copy(update={"codes": self._remember(("codes", node.name, forms), make)})

    def _rounding(self, node: Node) -> str:
        return self.policy.at(_data_inputs(node)).weights.rounding

    def _weight_params(self, node: Node, value: str, spec: QuantizerSpec, factors: tuple[float, ...]) -> QuantParams:
        weight = self.graph.constant(value)
        if not factors or node.contraction is None:
            return weight_params(weight, spec, self.policy.weights.estimator)
        inverse = 1.0 / np.asarray(factors)
        scaled = scaled_inputs(weight.astype(np.float32), np.asarray(factors, np.float32), node.contraction)
        return with_factors(weight_params(scaled, spec, self.policy.weights.estimator), inverse)

    def _bias_shifts(self, int8: list[str], by_op: dict[str, Quantizer]) -> list[BiasShift]:
        if not self.policy.bias_correction:
            return []
        shifts = (self._bias_shift(op, by_op[op]) for op in int8)
        return [shift for shift in shifts if shift is not None]

    def _bias_shift(self, op: str, activation: Quantizer) -> BiasShift | None:
        shift, reason = self._measured_shifts.get(op), "mean error of the output, measured"
        if shift is None:
            key = ("shift", op, activation.spec, activation.params, self._rounding(self.graph.node(op)))
            shift = self._remember(key, lambda: self._closed_form_shift(op, activation))
            reason = "mean quantization error of the output"
        if shift is None or not shift.any() or self._is_excessive(op, shift):
            return None
        return BiasShift(op=op, shift=self.arrays.put(shift), reason=reason)

    def _closed_form_shift(self, op: str, activation: Quantizer) -> F32 | None:
        node = self.graph.node(op)
        quantizers = self._weight_quantizer(op, activation)
        if node.contraction is None or not quantizers:
            return None
        weight, seen = self.graph.constant(quantizers[0].value), self._input_statistics(node)
        codes = weight_codes(quantizers[0], weight, self.arrays)
        quantized = dequantize(codes, quantizers[0].params, quantizers[0].spec)
        return closed_form_shift(weight, quantized, node.contraction, seen, activation)

    def _is_excessive(self, op: str, shift: F32) -> bool:
        """Whether the user's threshold forbids the shift."""
        limit, node = self.policy.bias_correction_threshold, self.graph.node(op)
        if limit is None or node.contraction is None or node.contraction.weight_input is None:
            return False
        weight = self.graph.constant(node.inputs[node.contraction.weight_input])
        return relative_shift(shift, weight, node.contraction, self._input_statistics(node)) > limit

    def _input_statistics(self, node: Node) -> TensorStatistics:
        """Statistics of what an op with a weight reads, with the channels that it sums over."""
        return self.statistics.along(_data_inputs(node)[0], channel_axis(node))


def make_plan(
    graph: Graph, policy: Policy, statistics: Statistics, candidate: Candidate
) -> tuple[QuantizationPlan, Arrays]:
    """The plan for one candidate, and the arrays that it names."""
    planner = Planner(graph, policy, statistics)
    plan = planner(candidate)
    return plan, planner.arrays


def _data_inputs(node: Node) -> list[str]:
    if node.contraction is None:
        message = f"{node.name} is no convolution or matrix product"
        raise InternalError(message)
    return [node.inputs[index] for index in node.contraction.activation_inputs]


def _by_group(slots: list[Slot]) -> list[list[Slot]]:
    groups: dict[str, list[Slot]] = {}
    for slot in slots:
        groups.setdefault(slot.group, []).append(slot)
    return list(groups.values())
