"""Plan to model: a new OpenVINO model with int8 weights and fake-quantized activations.

Activations are marked with FakeQuantize and weights are stored as int8 constants behind Convert and Multiply; the
runtime turns both into integer kernels when it compiles. Every inserted node gets a name made from the plan, so the
same plan yields the same file, byte for byte.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as opset

from maxdrop.backends.openvino.apart import keep_readers_apart
from maxdrop.backends.openvino.bias import add_shift
from maxdrop.backends.openvino.edits import absorbing_ops, divided_by_factors, multiplied_by_factors
from maxdrop.backends.openvino.graph import read_constant
from maxdrop.backends.openvino.naming import Names
from maxdrop.backends.openvino.offsets import offset_quantizers, offset_shift
from maxdrop.data.plan import Arrays, QuantizationPlan, Quantizer
from maxdrop.ptq.numerics import kept_shape, weight_codes


def apply_plan(
    model: ov.Model, plan: QuantizationPlan, arrays: Arrays, version: str, *, observable: bool = False
) -> ov.Model:
    """A quantized copy of `model`, which itself stays as it is.

    Args:
        model: the float model that the plan was made for.
        plan: decisions.
        arrays: what the plan names.
        version: of this package, written into the result.
        observable: keep the zero points of products, so that their outputs are those of the float model.
    """
    result = model.clone()
    names = Names(result)
    for name, node in names.nodes.items():
        if node.get_friendly_name() != name:
            node.set_friendly_name(name)
    absorbing, forms = absorbing_ops(plan), _forms(names, plan)
    offsets = {} if observable else offset_quantizers(plan, names.nodes, absorbing)
    lows = {use.node: offsets[q.id] for q in plan.quantizers if q.id in offsets for use in q.serves}
    shifts = {edit.op: arrays.get(edit.shift) for edit in plan.edits}
    for quantizer in plan.quantizers:
        absorbed = all(use.node in absorbing for use in quantizer.serves)
        if not quantizer.constant:
            _insert_fake_quantize(names, quantizer, absorbed, offsets.get(quantizer.id, 0.0))
            continue
        codes = weight_codes(quantizer, read_constant(names.output(quantizer.value)), arrays)
        for op in sorted({use.node for use in quantizer.uses} & lows.keys()):
            shift = offset_shift(quantizer, codes, names.nodes[op], lows[op])
            shifts[op] = shifts[op] + shift if op in shifts else shift
        if _is_weight_only_convolution(names, quantizer, plan):
            _round_weight(names, quantizer, codes)
        else:
            _store_weight(names, quantizer, codes, absorbed)
    # After the quantizers, so that one on the op's own output sees the shifted values.
    for op, shift in shifts.items():
        add_shift(names.nodes[op], shift)
    if plan.quantizers:
        keep_readers_apart(result)
    result.validate_nodes_and_infer_types()
    _write_info(result, plan, version)
    for number, (op, form) in enumerate(forms.items()):
        result.set_rt_info(f"{op}: {form}", ["maxdrop", "forms", f"op{number}"])
    return result


def fake_quantize(source: Any, quantizer: Quantizer, name: str, *, absorbed: bool = False, offset: float = 0.0) -> Any:
    """The output of a FakeQuantize with the quantizer's numbers on the output `source`, of the same element type.

    With `absorbed`, the weights of all readers hold the factors of a smoothing quantizer. What it yields is smaller
    by `offset`, which the readers make up for.
    """
    spec, params = quantizer.spec, quantizer.params
    scale = np.asarray(params.scale, np.float64)
    zero = np.asarray(params.zero_point, np.float64)
    shape = _parameter_shape(source, spec.axes)
    low = ((spec.quant_min - zero) * scale).reshape(shape)
    high = ((spec.quant_max - zero) * scale).reshape(shape)
    ends = [_constant(end.astype(np.float32), f"{name}/{label}") for end, label in ((low, "low"), (high, "high"))]
    yielded = ends
    if offset:
        moved = ((low - offset, "from"), (high - offset, "to"))
        yielded = [_constant(end.astype(np.float32), f"{name}/{label}") for end, label in moved]
    levels = spec.quant_max - spec.quant_min + 1
    real = divided_by_factors(_converted(source, ov.Type.f32, f"{name}/f32"), quantizer, name)
    node = opset.fake_quantize(real, *ends, *yielded, levels)
    node.set_friendly_name(name)
    result = node.output(0) if absorbed else multiplied_by_factors(node.output(0), quantizer, name)
    return _converted(result, source.get_element_type(), f"{name}/converted")


def _converted(source: Any, element_type: ov.Type, name: str) -> Any:
    """`source` as `element_type`; ranges and scales are float32 even in a float16 model, which would round them."""
    if source.get_element_type() == element_type:
        return source
    node = opset.convert(source, element_type.to_string())
    node.set_friendly_name(name)
    return node.output(0)


def _parameter_shape(source: Any, axes: tuple[int, ...]) -> tuple[int, ...]:
    if not axes:
        return ()
    rank = source.get_partial_shape().rank.get_length()
    kept = {axis % rank for axis in axes}
    return tuple(-1 if i in kept else 1 for i in range(rank))


def _insert_fake_quantize(names: Names, quantizer: Quantizer, absorbed: bool, offset: float) -> None:
    source = names.output(quantizer.value)
    name = f"{quantizer.id}/fake_quantize"
    quantized = fake_quantize(source, quantizer, name, absorbed=absorbed, offset=offset)
    for use in quantizer.uses:
        names.nodes[use.node].input(use.index).replace_source_output(quantized)


def _store_weight(names: Names, quantizer: Quantizer, codes: NDArray[Any], absorbed: bool) -> None:
    """Replace a weight by its int8 codes and a scale.

    Readers of one weight get codes of their own, by whose names `executed` recognises the kernels; the file holds
    equal constants once anyway.
    """
    element_type = names.output(quantizer.value).get_element_type()
    weight = _dequantized(codes, quantizer, element_type, absorbed)
    for use in quantizer.uses:
        names.nodes[use.node].input(use.index).replace_source_output(weight)


def _is_weight_only_convolution(names: Names, quantizer: Quantizer, plan: QuantizationPlan) -> bool:
    ops = [use.node for use in quantizer.uses]
    kinds = {names.nodes[op].get_type_name() for op in ops}
    return not set(ops) & set(plan.int8_ops) and any("Convolution" in kind for kind in kinds)


def _round_weight(names: Names, quantizer: Quantizer, codes: NDArray[Any]) -> None:
    """Replace a weight by its rounded values in float.

    OpenVINO 2026.4 computes wrong results for convolutions of float activations with int8 codes when it runs more
    than one stream.
    """
    source = names.output(quantizer.value)
    scale = np.asarray(quantizer.params.scale, np.float32).reshape(kept_shape(codes.shape, quantizer.spec.axes))
    rounded = multiplied_by_factors(
        _constant(codes.astype(np.float32) * scale, f"{quantizer.id}/rounded").output(0), quantizer, quantizer.id
    )
    rounded = _converted(rounded, source.get_element_type(), f"{quantizer.id}/converted")
    for use in quantizer.uses:
        names.nodes[use.node].input(use.index).replace_source_output(rounded)


def _dequantized(stored: NDArray[Any], quantizer: Quantizer, element_type: ov.Type, absorbed: bool) -> Any:
    name = quantizer.id
    convert = opset.convert(_constant(stored, f"{name}/int8"), "f32")
    convert.set_friendly_name(f"{name}/convert")
    scale = np.asarray(quantizer.params.scale, np.float32).reshape(kept_shape(stored.shape, quantizer.spec.axes))
    multiply = opset.multiply(convert, _constant(scale, f"{name}/scale"))
    multiply.set_friendly_name(f"{name}/dequantized")
    result = multiply.output(0) if absorbed else multiplied_by_factors(multiply.output(0), quantizer, name)
    return _converted(result, element_type, f"{name}/converted")


def _constant(data: NDArray[Any], name: str) -> Any:
    node = opset.constant(np.ascontiguousarray(data))
    node.set_friendly_name(name)
    return node


def _forms(names: Names, plan: QuantizationPlan) -> dict[str, str]:
    """By int8 op, for people: how it was tuned."""
    found: dict[str, list[str]] = {}
    for use in (use for q in plan.quantizers if not q.constant for use in q.serves):
        form = plan.policy.tuned.get(names.value(names.nodes[use.node].input_value(use.index)))
        if form is not None and form.text not in found.setdefault(use.node, []):
            found[use.node].append(form.text)
    return {op: "; ".join(texts) for op, texts in found.items()}


def _write_info(model: ov.Model, plan: QuantizationPlan, version: str) -> None:
    model.set_rt_info(version, ["maxdrop", "version"])
    model.set_rt_info(plan.key(), ["maxdrop", "plan_key"])
    model.set_rt_info(plan.graph, ["maxdrop", "float_model"])
    model.set_rt_info(plan.policy.model_dump_json(), ["maxdrop", "policy"])
    model.set_rt_info(plan.candidate.model_dump_json(), ["maxdrop", "candidate"])
    for number, (op, reason) in enumerate(plan.float_ops.items()):
        model.set_rt_info(f"{op}: {reason}", ["maxdrop", "float_ops", f"op{number}"])
