"""Other forms of int8 for the ops that disturb the output most: which there are, and which are worth a measurement.

A form belongs to a value that ops read, not to an op: its readers share one quantizer, and keep sharing it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maxdrop.data.graph import Graph, OpKind
from maxdrop.data.plan import Candidate, QuantizationPlan, Quantizer
from maxdrop.data.spec import AggregatorKind, BoundSpec, EstimatorSpec, Form, Policy, StatisticKind
from maxdrop.ptq.build import Planner
from maxdrop.ptq.payoff import is_first_layer, target_row
from maxdrop.search.sensitivity import op_noise

VARIANTS = 3
"""Forms of each value that are measured."""

MINMAX = EstimatorSpec(name="minmax")
RANGES = (
    MINMAX,
    EstimatorSpec(name="mean_minmax"),
    EstimatorSpec(name="output_mse"),
    EstimatorSpec(name="mse"),
    EstimatorSpec(name="quantile"),
    EstimatorSpec(
        name="bounds",
        lower=BoundSpec(statistic=StatisticKind.QUANTILE, aggregator=AggregatorKind.MIN, outlier_prob=1e-5),
        upper=BoundSpec(statistic=StatisticKind.QUANTILE, aggregator=AggregatorKind.MAX, outlier_prob=1e-5),
    ),
)


FEW_RANGES = tuple(estimator for estimator in RANGES if estimator.name not in ("mean_minmax", "quantile"))
"""For smoothed values, each form of which takes a search for the strength of its own."""


@dataclass(frozen=True)
class Cluster:
    """Values that can only be judged together, because some op reads two of them or they share a quantizer.

    Attributes:
        values: inputs of int8 ops.
        ops: all ops that read one of them.
    """

    values: tuple[str, ...]
    ops: tuple[str, ...]


def clusters(graph: Graph, plan: QuantizationPlan) -> list[Cluster]:
    """All clusters of a plan, in topological order of their first op."""
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root.setdefault(name, name) != name:
            name = root[name]
        return name

    read = {use: graph.node(use.node).inputs[use.index] for q in plan.quantizers if not q.constant for use in q.serves}
    for quantizer in plan.quantizers:
        for use in quantizer.serves if not quantizer.constant else ():
            for other in (f"value {read[use]}", f"op {use.node}"):
                root[find(other)] = find(f"group {quantizer.group}")
    found: dict[str, tuple[list[str], list[str]]] = {}
    for op in plan.int8_ops:
        values, ops = found.setdefault(find(f"op {op}"), ([], []))
        ops.append(op)
        values += [v for use, v in read.items() if use.node == op and v not in values]
    return [Cluster(tuple(values), tuple(ops)) for values, ops in found.values()]


def most_sensitive(
    found: Sequence[Cluster], sensitivity: Mapping[str, float], most: int, share: float
) -> list[Cluster]:
    """The clusters with the most error: until they hold `share` of it, and no more than `most` ops."""
    total = sum(sensitivity.values())
    chosen: list[Cluster] = []
    ops, held = 0, 0.0
    for cluster in sorted(found, key=lambda c: -sum(sensitivity[op] for op in c.ops)):
        error = sum(sensitivity[op] for op in cluster.ops)
        if held >= share * total or error <= 0.0:
            break
        if ops + len(cluster.ops) <= most:
            chosen.append(cluster)
            ops, held = ops + len(cluster.ops), held + error
    return chosen


def worth_measuring(planner: Planner, chosen: Sequence[Cluster], wishes: Policy) -> list[list[Form]]:
    """For each cluster up to `VARIANTS` forms that are no other name for what it has.

    Sampled rows predict the error of each at the ops' own outputs. Of the ranges the widest is always among them: that
    a rare extreme carries the answer is what a prediction by rows cannot see.

    Args:
        planner: with the forms that the clusters have.
        chosen: clusters.
        wishes: of the user; what they decide is not tried otherwise.
    """
    plain = planner.with_policy(planner.policy.model_copy(update={"bias_correction": False}))
    before = plain(Candidate())
    allowed = {c: _allowed(planner, c, wishes, _quantizers(before, c)) for c in chosen}
    forms = {form: [c for c in chosen if form in allowed[c]] for form in _all_forms()}
    noise: list[dict[Form, float]] = [{} for _ in chosen]
    for form, members in forms.items():
        if not members:
            continue
        after = plain.with_forms({value: form for c in members for value in c.values})(Candidate())
        for number, cluster in enumerate(chosen):
            if cluster in members and _quantizers(after, cluster) != _quantizers(before, cluster):
                noise[number][form] = _error(planner, after, cluster)
    return [_pick(each) for each in noise]


def _all_forms() -> list[Form]:
    return [
        *(Form(estimator=estimator) for estimator in RANGES),
        Form(symmetric=True),
        Form(symmetric=False),
        Form(per_channel=True),
        *(Form(smooth_quant=alpha) for alpha in ("off", "auto", 0.5, 0.85)),
    ]


def _allowed(planner: Planner, cluster: Cluster, wishes: Policy, current: Sequence[Quantizer]) -> list[Form]:
    """The forms that break no wish of the user's and that the ops have a use for."""
    graph, activations = planner.graph, wishes.activations
    nodes = [graph.node(op) for op in cluster.ops]
    outside = any(is_first_layer(graph, node) for node in nodes)
    rows = [row for row in (target_row(node, wishes) for node in nodes) if row is not None]
    takes_channels = any(row.per_channel_activations for row in rows) and activations.per_channel is None
    few = FEW_RANGES if any(quantizer.params.factors for quantizer in current) else RANGES
    ranges = few if activations.estimator.name == "auto" and not outside else ()
    return [
        form
        for form in _all_forms()
        if (form.estimator is None or form.estimator in ranges)
        and (form.symmetric is None or activations.symmetric is None)
        and (form.per_channel is None or takes_channels)
        and (form.smooth_quant is None or any(_may_smooth(wishes, node.kind) for node in nodes))
    ]


def _may_smooth(policy: Policy, kind: OpKind) -> bool:
    if kind is OpKind.MATMUL:
        return policy.smooth_quant.matmul == "auto"
    return kind is OpKind.CONVOLUTION and policy.smooth_quant.convolution == "auto"


def _quantizers(plan: QuantizationPlan, cluster: Cluster) -> list[Quantizer]:
    return [q for q in plan.quantizers if any(use.node in cluster.ops for use in q.serves)]


def _error(planner: Planner, plan: QuantizationPlan, cluster: Cluster) -> float:
    noise = op_noise(planner.graph, plan, planner.statistics, planner.arrays, cluster.ops)
    return sum(activations + weights for activations, weights in noise.values())


def _pick(noise: Mapping[Form, float]) -> list[Form]:
    order = sorted(noise, key=noise.__getitem__)
    structural = [form for form in order if form.estimator is None]
    ranges = [form for form in order if form.estimator is not None]
    first = [*structural[:1], *(form for form in ranges if form.estimator == MINMAX)]
    rest = [form for form in order if form not in first]
    return [*first, *rest][:VARIANTS]
