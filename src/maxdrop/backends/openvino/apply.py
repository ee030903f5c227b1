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

from maxdrop.backends.openvino.bias import add_shift
from maxdrop.backends.openvino.graph import read_constant
from maxdrop.backends.openvino.naming import Names
from maxdrop.data.plan import Arrays, QuantizationPlan, Quantizer
from maxdrop.ptq.numerics import kept_shape, quantize

_NUMPY = {"f16": np.float16, "f32": np.float32, "f64": np.float64}


def apply_plan(model: ov.Model, plan: QuantizationPlan, arrays: Arrays, version: str) -> ov.Model:
    """A quantized copy of `model`, which itself stays as it is.

    Args:
        model: the float model that the plan was made for.
        plan: decisions.
        arrays: what the plan names.
        version: of this package, written into the result.
    """
    result = model.clone()
    names = Names(result)
    for name, node in names.nodes.items():
        if node.get_friendly_name() != name:
            node.set_friendly_name(name)
    for edit in plan.edits:
        add_shift(names.nodes[edit.op], arrays.get(edit.shift))
    codes: dict[tuple[str, Any], Any] = {}
    for quantizer in plan.quantizers:
        if quantizer.constant:
            _store_weight(names, quantizer, codes)
        else:
            _insert_fake_quantize(names, quantizer)
    result.validate_nodes_and_infer_types()
    _write_info(result, plan, version)
    return result


def fake_quantize(source: Any, quantizer: Quantizer, name: str) -> Any:
    """A FakeQuantize node on the output `source` with the quantizer's numbers."""
    spec, params = quantizer.spec, quantizer.params
    scale = np.asarray(params.scale, np.float64)
    zero = np.asarray(params.zero_point, np.float64)
    shape = _parameter_shape(source, spec.axes)
    low = ((spec.quant_min - zero) * scale).reshape(shape)
    high = ((spec.quant_max - zero) * scale).reshape(shape)
    dtype = _NUMPY[source.get_element_type().to_string()]
    ends = [_constant(end.astype(dtype), f"{name}/{label}") for end, label in ((low, "low"), (high, "high"))]
    levels = spec.quant_max - spec.quant_min + 1
    node = opset.fake_quantize(source, ends[0], ends[1], ends[0], ends[1], levels)
    node.set_friendly_name(name)
    return node


def _parameter_shape(source: Any, axes: tuple[int, ...]) -> tuple[int, ...]:
    if not axes:
        return ()
    rank = source.get_partial_shape().rank.get_length()
    kept = {axis % rank for axis in axes}
    return tuple(-1 if i in kept else 1 for i in range(rank))


def _insert_fake_quantize(names: Names, quantizer: Quantizer) -> None:
    source = names.output(quantizer.value)
    node = fake_quantize(source, quantizer, f"{quantizer.id}/fake_quantize")
    for use in quantizer.uses:
        names.nodes[use.node].input(use.index).replace_source_output(node.output(0))


def _store_weight(names: Names, quantizer: Quantizer, codes: dict[tuple[str, Any], Any]) -> None:
    """Replace a weight by int8 codes and a scale; readers of one weight with equal codes share them."""
    key = (quantizer.value, (quantizer.spec, quantizer.params))
    if key not in codes:
        source = names.output(quantizer.value)
        weight = read_constant(source)
        stored = quantize(weight.astype(np.float32), quantizer.params, quantizer.spec)
        codes[key] = _dequantized(stored, quantizer, source.get_element_type())
    for use in quantizer.uses:
        names.nodes[use.node].input(use.index).replace_source_output(codes[key].output(0))


def _dequantized(stored: NDArray[Any], quantizer: Quantizer, element_type: ov.Type) -> Any:
    name = quantizer.id
    constant = _constant(stored, f"{name}/int8")
    convert = opset.convert(constant, element_type.to_string())
    convert.set_friendly_name(f"{name}/convert")
    scale = np.asarray(quantizer.params.scale, _NUMPY[element_type.to_string()])
    shape = kept_shape(stored.shape, quantizer.spec.axes)
    multiply = opset.multiply(convert, _constant(scale.reshape(shape), f"{name}/scale"))
    multiply.set_friendly_name(f"{name}/dequantized")
    return multiply


def _constant(data: NDArray[Any], name: str) -> Any:
    node = opset.constant(np.ascontiguousarray(data))
    node.set_friendly_name(name)
    return node


def _write_info(model: ov.Model, plan: QuantizationPlan, version: str) -> None:
    model.set_rt_info(version, ["maxdrop", "version"])
    model.set_rt_info(plan.key(), ["maxdrop", "plan_key"])
    model.set_rt_info(plan.graph, ["maxdrop", "float_model"])
    model.set_rt_info(plan.policy.model_dump_json(), ["maxdrop", "policy"])
    model.set_rt_info(plan.candidate.model_dump_json(), ["maxdrop", "candidate"])
    for number, (op, reason) in enumerate(plan.float_ops.items()):
        model.set_rt_info(f"{op}: {reason}", ["maxdrop", "float_ops", f"op{number}"])
