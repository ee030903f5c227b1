"""Quantizers of weights, with the factors that they absorb and the codes that they are rounded to."""

from __future__ import annotations

import numpy as np

from maxdrop.data.graph import Contraction, Node
from maxdrop.data.plan import ArrayRef, Quantizer, UseRef
from maxdrop.data.spec import QuantizerSpec, QuantParams
from maxdrop.ptq.activation_quantizers import usual_activations
from maxdrop.ptq.basis import Basis, data_inputs
from maxdrop.ptq.rounding import rounded_weight
from maxdrop.ptq.smooth_quant import with_factors
from maxdrop.ptq.weights import scaled_inputs, weight_params


def weight_quantizer(basis: Basis, op: str, activation: Quantizer | None) -> Quantizer | None:
    """The quantizer of the op's constant operand, which absorbs the factors of its `activation`; None without one.

    A weight whose activation is float here (None) still has the factors: without them it may round far worse.
    """
    node = basis.graph.node(op)
    if node.contraction is None or node.contraction.weight_input is None:
        return None
    index = node.contraction.weight_input
    value = node.inputs[index]
    smoother = activation or usual_activations(basis).get(op)
    spec, factors = basis.weight_spec(node), smoother.params.factors if smoother else ()
    if factors:
        spec = spec.model_copy(update={"smooth_axis": node.contraction.weight_channel_axis})
    params = basis.remember(
        ("weight", value, spec, factors, basis.policy.weights.estimator),
        lambda: _params(basis, node, value, spec, factors),
    )
    use, name = UseRef(node=op, index=index), f"{op}:{index}"
    quantizer = Quantizer(
        id=name, value=value, uses=(use,), serves=(use,), constant=True, spec=spec, params=params, group=name
    )
    return _rounded(basis, quantizer, node.contraction, activation)


def rounding_of(basis: Basis, node: Node) -> str:
    """How the op's weight is rounded."""
    return basis.policy.at(data_inputs(node)).weights.rounding


def _params(basis: Basis, node: Node, value: str, spec: QuantizerSpec, factors: tuple[float, ...]) -> QuantParams:
    weight = basis.graph.constant(value)
    if not factors or node.contraction is None:
        return weight_params(weight, spec, basis.policy.weights.estimator)
    inverse = 1.0 / np.asarray(factors)
    scaled = scaled_inputs(weight.astype(np.float32), np.asarray(factors, np.float32), node.contraction)
    return with_factors(weight_params(scaled, spec, basis.policy.weights.estimator), inverse)


def _rounded(basis: Basis, quantizer: Quantizer, contraction: Contraction, activation: Quantizer | None) -> Quantizer:
    """The same with codes of its own where these were asked for and are better than the nearest ones."""
    node = basis.graph.node(quantizer.uses[0].node)
    if activation is None or rounding_of(basis, node) == "nearest":
        return quantizer
    forms = (activation.spec, activation.params), (quantizer.spec, quantizer.params)

    def make() -> ArrayRef | None:
        statistics = basis.input_statistics(node)
        codes = rounded_weight(basis.graph.constant(quantizer.value), contraction, statistics, *forms)
        return None if codes is None else basis.arrays.put(codes)

    return quantizer.model_copy(update={"codes": basis.remember(("codes", node.name, forms), make)})
