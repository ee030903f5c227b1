"""Where quantizers go, what a plan pins down, and what `apply` makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

import maxdrop as md
from maxdrop.backends.openvino.graph import build_graph
from maxdrop.data.plan import QuantizationPlan
from maxdrop.data.spec import ActivationPolicy, Policy, Precision
from maxdrop.options import QuantizationParameters
from maxdrop.ptq.numerics import sqnr
from maxdrop.ptq.payoff import choose_int8
from maxdrop.ptq.placement import Slot, place
from tests.graphs import branches, convolutions, forms, products
from tests.graphs.check import BACKEND, F32, PLAIN, Outcome, content, lowest_sqnr, outcome, planner_for, run
from tests.graphs.layers import conv, depthwise, ints, model, named, normal, parameter, rng

IMAGE = (1, 8, 8, 8)


def images(count: int) -> list[Any]:
    return [rng(f"image{i}").standard_normal(IMAGE).astype(np.float32) for i in range(count)]


def slots(float_model: ov.Model, *int8: str, share: bool = True) -> dict[str, Slot]:
    """Slots by value, with every op of the model in int8 unless some are named."""
    graph = build_graph(float_model)
    chosen = int8 or tuple(choose_int8(graph, Policy())[0])
    return {slot.value: slot for slot in place(graph, chosen, lambda values: share, lambda node: False)}


def uses(slot: Slot) -> list[tuple[str, int]]:
    return sorted((use.node, use.index) for use in slot.uses)


def chain(*between: Callable[[Any], Any]) -> ov.Model:
    """A convolution "c1", ReLU "r", the given ops "m0", "m1", ..., and a convolution "c2"."""
    x = parameter(IMAGE)
    y = named(op.relu(conv(x, 8, "c1")), "r")
    for i, make in enumerate(between):
        y = make(y)
        (y.get_node() if isinstance(y, ov.Output) else y).set_friendly_name(f"m{i}")
    return model([conv(y, 8, "c2")], [x])


def pool(y: Any) -> Any:
    return op.max_pool(y, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)


def turn(y: Any) -> Any:
    return op.transpose(y, ints(0, 1, 3, 2))


def pad(value: float) -> Callable[[Any], Any]:
    return lambda y: op.pad(y, ints(0, 0, 1, 1), ints(0, 0, 1, 1), "constant", np.float32(value))


def test_one_quantizer_serves_all_readers_of_a_value() -> None:
    found = slots(products.gated_mlp())
    assert uses(found["x"]) == [("gate", 0), ("up", 0)]
    assert len(found) == 2


def test_a_quantizer_moves_above_what_only_moves_values() -> None:
    found = slots(chain(pool, turn))
    assert uses(found["r"]) == [("m0", 0)]
    assert [(use.node, use.index) for use in found["r"].serves] == [("c2", 0)]
    assert found["r"].measured == ("m1",)


@pytest.mark.parametrize("arithmetic", [op.relu, op.sigmoid, pad(1.0)])
def test_a_quantizer_stays_below_arithmetic(arithmetic: Callable[[Any], Any]) -> None:
    assert uses(slots(chain(arithmetic))["m0"]) == [("c2", 0)]


def test_a_quantizer_moves_above_zero_padding() -> None:
    assert "r" in slots(chain(pad(0.0)))


@pytest.mark.parametrize(
    "make",
    [
        lambda y: op.tile(y, ints(1, 1, 2, 1)),
        lambda y: op.space_to_depth(y, "blocks_first", 2),
        lambda y: op.reverse_sequence(y, ints(8), 0, 2),
        lambda y: op.gather_nd(y, op.constant(np.zeros((1, 1, 1), np.int64))),
        lambda y: op.pad(y, ints(0, 0, -1, 1), ints(0, 0, 1, 0), "constant", np.float32(0)),
    ],
)
def test_a_quantizer_stays_below_what_the_runtime_cannot_do_in_int8(make: Callable[[Any], Any]) -> None:
    result = outcome(chain(make), images(2))
    assert result.group("m0")
    assert all(result.executed.values())


def test_a_float_reader_keeps_the_float_value() -> None:
    float_model = branches.pooled_and_direct_readers()
    result = outcome(float_model, images(4))
    sigmoid = next(node for node in result.model.get_ops() if node.get_type_name() == "Sigmoid")
    assert sigmoid.input_value(0).get_node().get_type_name() == "Relu"
    convolution = next(node for node in result.model.get_ops() if node.get_friendly_name() == "c2")
    assert convolution.input_value(0).get_node().get_type_name() == "FakeQuantize"


def test_a_quantizer_moves_up_only_if_all_readers_are_int8() -> None:
    x = parameter(IMAGE)
    pooled = named(pool(named(op.relu(conv(x, 8, "c1")), "r")).get_node(), "p")
    float_model = model([conv(pooled.output(0), 8, "c2"), conv(pooled.output(0), 8, "c3")], [x])
    assert "r" in slots(float_model)
    one_float = slots(float_model, "c1", "c2")
    assert "r" not in one_float
    assert uses(one_float["p"]) == [("c2", 0)]


def test_all_outputs_of_a_split_must_be_int8() -> None:
    assert any(len(slot.serves) == 2 for slot in slots(branches.split()).values())
    assert not any(len(slot.serves) == 2 for slot in slots(branches.split_float_reader()).values())


def concat_model() -> ov.Model:
    x = parameter(IMAGE)
    parts = [named(op.relu(conv(x, 8, name)), f"r{name}") for name in "ab"]
    return model([conv(named(op.concat(parts, 1), "joined"), 8, "c")], [x])


def test_a_quantizer_of_a_concat_splits_onto_the_branches() -> None:
    found = slots(concat_model())
    assert uses(found["ra"]) == [("joined", 0)]
    assert uses(found["rb"]) == [("joined", 1)]
    assert found["ra"].group == found["rb"].group != found["x"].group
    assert found["ra"].serves == found["rb"].serves


def test_a_quantizer_stays_on_a_concat_of_unlike_branches() -> None:
    assert set(slots(concat_model(), share=False)) == {"x", "joined"}


def test_branches_with_unlike_ranges_do_not_share() -> None:
    samples = images(4)
    alike, unlike = outcome(branches.concat_shares(), samples), outcome(branches.concat_different_ranges(), samples)
    assert alike.group("ra") == alike.group("rb")
    assert alike.plan.quantizers[1].params == alike.plan.quantizers[2].params
    assert "ra" not in {q.value for q in unlike.plan.quantizers}


def test_a_float_reader_keeps_a_concat_whole() -> None:
    found = outcome(branches.concat_float_reader(), images(4))
    kinds = {found.planner.graph.producer(q.value).native_type for q in found.plan.quantizers if not q.constant}
    assert kinds == {"Parameter", "Concat"}


def test_branches_that_meet_in_two_concats_are_one_group() -> None:
    x = parameter(IMAGE)
    a, b, c = (named(op.relu(conv(x, 8, name)), f"r{name}") for name in "abc")
    ends = [conv(op.concat([a, b], 1), 8, "d"), conv(op.concat([b, c], 1), 8, "e")]
    found = slots(model(ends, [x]))
    assert len({found[f"r{name}"].group for name in "abc"}) == 1
    assert len(found["rb"].uses) == 2


def per_channel(float_model: ov.Model) -> Outcome:
    policy = Policy(placement="all", activations=ActivationPolicy(per_channel=True))
    return outcome(float_model, images(8), policy)


def test_depthwise_takes_a_scale_for_each_channel_when_asked() -> None:
    float_model = convolutions.depthwise_pointwise()
    result = per_channel(float_model)
    axes = {q.serves[0].node: q.spec.axes for q in result.plan.quantizers if not q.constant}
    assert axes == {"c1": (), "dw": (1,), "c2": ()}
    assert len(next(q for q in result.plan.quantizers if q.spec.axes == (1,)).params.scale) == 16
    assert all(result.executed.values())
    assert lowest_sqnr(float_model, result.model, images(4)) > 25


def test_a_value_read_by_depthwise_and_dense_gets_two_quantizers() -> None:
    x = parameter(IMAGE)
    y = named(op.relu(conv(x, 8, "c1")), "r")
    result = per_channel(model([depthwise(y, "dw"), conv(y, 8, "c2")], [x]))
    on_r = [q for q in result.plan.quantizers if q.value == "r"]
    assert sorted(q.spec.axes for q in on_r) == [(), (1,)]
    assert all(result.executed.values())


def test_per_channel_is_an_option_of_quantize() -> None:
    advanced = md.AdvancedQuantizationParameters(
        activations_quantization_params=QuantizationParameters(per_channel=True)
    )
    data = md.Dataset(images(4))
    result = md.quantize(convolutions.depthwise_pointwise(), data, placement="all", advanced_parameters=advanced)
    sizes = [node.get_input_shape(1) for node in result.get_ops() if node.get_type_name() == "FakeQuantize"]
    assert sorted(np.prod(size) for size in sizes) == [1, 1, 16]


def test_the_second_operand_of_a_product_is_signed() -> None:
    case = next(c for c in products.CASES if c.name == "product_of_positive_activations")
    result = outcome(case.build(), case.samples(1, 4), Policy(placement="all"))
    dtypes = {use.index: q.spec.dtype for q in result.plan.quantizers for use in q.serves if use.node == "p"}
    assert dtypes == {0: "uint8", 1: "int8"}


def two_times(float_model: ov.Model, plan: QuantizationPlan, arrays: Any, folder: Path) -> list[tuple[bytes, bytes]]:
    files = []
    for number in range(2):
        path = folder / f"model{number}.xml"
        BACKEND.save(BACKEND.apply(float_model, plan, arrays), path)
        files.append((path.read_bytes(), path.with_suffix(".bin").read_bytes()))
    return files


@pytest.mark.parametrize(
    "make", [convolutions.unfused_batch_norm, branches.concat_shares, forms.float16_model, forms.duplicate_names]
)
def test_one_plan_gives_one_file(make: Callable[[], ov.Model], tmp_path: Path) -> None:
    float_model = make()
    dtype = np.float16 if make is forms.float16_model else np.float32
    planner = planner_for(float_model, [x.astype(dtype) for x in images(4)], Policy())
    first, second = two_times(float_model, planner(md.Candidate()), planner.arrays, tmp_path)
    assert first == second
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_plan_for_another_model_is_refused() -> None:
    float_model = convolutions.conv_relu_chain()
    planner = planner_for(float_model, images(2), Policy())
    with pytest.raises(md.PlanError, match="fits only the float model"):
        BACKEND.apply(convolutions.conv_swish(), planner(md.Candidate()), planner.arrays)


def stride(steps: int) -> ov.Model:
    x = parameter((1, 8, 1, 1))
    weight = op.constant(normal("c", 8, 8, 1, 1))
    return model([named(op.convolution(x, weight, [steps] * 2, [0, 0], [0, 0], [1, 1]), "c")], [x])


def iterated(seed: str) -> ov.Model:
    x, step = parameter((1, 12, 8)), op.parameter([1, 1, 8], np.float32)
    product = op.matmul(step, op.constant(normal(seed, 8, 8)), False, False)
    body = ov.Model([op.result(product)], [step], "body")
    for number, node in enumerate(body.get_ordered_ops()):
        node.set_friendly_name(f"b{number}")
    made = op.tensor_iterator()
    made.set_function(body)
    made.set_sliced_input(step, x.output(0), 0, 1, 1, -1, 1)
    return model([made.get_concatenated_slices(body.outputs[0], 0, 1, 1, -1, 1)], [x])


def weighted(seed: str) -> ov.Model:
    x = parameter(IMAGE)
    return model([conv(x, 8, "c", weight=op.constant(normal(seed, 8, 8, 3, 3)))], [x])


def fingerprint(made: ov.Model) -> str:
    """Fingerprint after naming all nodes: what the process names them depends on how many it has made."""
    for number, node in enumerate(made.get_ordered_ops()):
        node.set_friendly_name(f"n{number}")
    return build_graph(made).fingerprint


@pytest.mark.parametrize(
    "variants",
    [
        (stride(1), stride(1), stride(2)),
        (weighted("one"), weighted("one"), weighted("two")),
        (iterated("one"), iterated("one"), iterated("two")),
    ],
    ids=["attributes", "weights", "bodies"],
)
def test_what_the_fingerprint_covers(variants: tuple[ov.Model, ov.Model, ov.Model]) -> None:
    first, same, other = map(fingerprint, variants)
    assert first == same != other


def test_bias_correction_reaches_an_op_whose_output_is_quantized() -> None:
    float_model = convolutions.conv_without_bias()
    result = outcome(float_model, images(4))
    quantizer = next(n for n in result.model.get_ops() if n.get_friendly_name() == "c1/fake_quantize")
    assert quantizer.input_value(0).get_node().get_friendly_name() == "c1/add_bias"


def test_a_reverted_op_gets_its_own_weights_and_bias_back() -> None:
    float_model = convolutions.conv_relu_chain()
    planner = planner_for(float_model, images(4), Policy())
    everything = dict.fromkeys(planner.int8_ops, Precision.FLOAT)
    plan = planner(md.Candidate(precisions=everything))
    assert plan.quantizers == () == plan.edits
    restored = BACKEND.apply(float_model, plan, planner.arrays)
    assert lowest_sqnr(float_model, restored, images(2)) == float("inf")


def test_equal_weights_are_stored_once(tmp_path: Path) -> None:
    float_model = products.shared_weights_linear()
    case = next(c for c in products.CASES if c.name == "shared_weights_linear")
    result = outcome(float_model, case.samples(1, 4), PLAIN)  # SmoothQuant would make the weights differ
    assert len(content(result.model, tmp_path)[1]) < 2 * 32 * 32


def test_an_op_of_unknown_rank_stays_float() -> None:
    x, shape = parameter((1, 12, 32)), parameter((-1,), "shape", np.int64)
    flexible = op.reshape(x, shape, False)
    graph = build_graph(model([linear_on_unknown(flexible)], [x, shape]))
    chosen, reasons = choose_int8(graph, Policy())
    assert chosen == []
    assert "rank" in reasons["fc"]


def linear_on_unknown(x: Any) -> Any:
    return named(op.matmul(x, op.constant(normal("fc", 32, 16)), False, False), "fc")


def test_an_op_behind_a_reader_outside_the_model_is_the_same() -> None:
    float_model = forms.unreachable_reader()
    assert all(use.node in build_graph(float_model) for v in build_graph(float_model).values.values() for use in v.uses)
    assert BACKEND.compile(outcome(float_model, images(2)).model, F32)


def test_linear_and_convolution_share_one_quantizer_of_their_common_source() -> None:
    result = outcome(branches.tokens_of_image(), images(4))
    shared = [q for q in result.plan.quantizers if len(q.serves) == 2]
    assert [sorted(use.node for use in q.serves) for q in shared] == [["c2", "fc"]]


def test_linear_layers_behind_one_norm_share_its_quantizer() -> None:
    case = next(c for c in products.CASES if c.name == "attention")
    result = outcome(case.build(), case.samples(1, 4))
    assert sorted(len(q.serves) for q in result.plan.quantizers if not q.constant) == [1, 3]


@pytest.mark.parametrize("make", [convolutions.unfused_batch_norm, branches.concat_shares, forms.float16_model])
def test_switches_off_is_float_and_on_is_close_to_int8(make: Callable[[], ov.Model]) -> None:
    float_model = make()
    dtype = np.float16 if make is forms.float16_model else np.float32
    samples = [x.astype(dtype) for x in images(4)]
    result = outcome(float_model, samples)
    switchable = BACKEND.switchable(float_model, result.plan)
    (reference,), (quantized,) = run(float_model, samples[:1]), run(result.model, samples[:1])
    assert sqnr(reference[0], switchable.run(samples[0], [])[0]) > 100
    simulated = switchable.run(samples[0], result.plan.int8_ops)[0]
    assert sqnr(reference[0], simulated) < 60
    assert sqnr(quantized[0], simulated) > 25
