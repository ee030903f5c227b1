"""Quantizers of the model's outputs, for what reads 8-bit numbers behind it. They serve no op and gain no time."""

from __future__ import annotations

from maxdrop.data.graph import Graph, OpKind
from maxdrop.data.plan import Quantizer, UseRef
from maxdrop.data.spec import ActivationPolicy, EstimatorSpec, QuantizerSpec
from maxdrop.data.statistics import Statistics, TensorStatistics
from maxdrop.ptq.calibration import output_values
from maxdrop.ptq.numerics import params_from_range
from maxdrop.ptq.ranges import get_estimator


def output_quantizers(graph: Graph, wishes: ActivationPolicy, statistics: Statistics) -> list[Quantizer]:
    """One for each floating-point output that was measured and finite; left to itself the package clips none."""
    values = [value for value in output_values(graph) if value in statistics and statistics[value].is_finite]
    return [_quantizer(graph, value, wishes, statistics[value]) for value in values]


def _quantizer(graph: Graph, value: str, wishes: ActivationPolicy, seen: TensorStatistics) -> Quantizer:
    signed = float(seen.sample_min.min()) < 0.0 if wishes.signed is None else wishes.signed
    spec = QuantizerSpec(dtype="uint8", symmetric=not signed)
    if signed and wishes.symmetric:
        spec = QuantizerSpec(dtype="int8", narrow_range=wishes.narrow_range)
    estimator = EstimatorSpec(name="minmax") if wishes.estimator.name == "auto" else wishes.estimator
    params = params_from_range(*get_estimator(estimator)(seen, spec), spec)
    readers = [use for use in graph.value(value).uses if graph.node(use.node).kind is OpKind.RESULT]
    return Quantizer(
        id=f"{value}/output",
        value=value,
        uses=tuple(UseRef(node=use.node, index=use.index) for use in readers),
        serves=(),
        constant=False,
        spec=spec,
        params=params,
        group=f"{value}/output",
    )
