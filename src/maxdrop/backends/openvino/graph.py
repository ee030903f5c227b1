"""The read-only view of an OpenVINO model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from maxdrop.backends.openvino.contraction import contraction_of, macs_of
from maxdrop.backends.openvino.kinds import KINDS
from maxdrop.backends.openvino.naming import Names
from maxdrop.backends.openvino.stable_names import bodies
from maxdrop.data.graph import Graph, Node, OpKind, Use, Value

_DTYPES = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64", "boolean": "bool"}
_NEVER_CONSTANT = frozenset({"Parameter", "ReadValue", "RandomUniform", "Multinomial", "Variable"})
_DYNAMIC_SIZE = 64


def build_graph(model: ov.Model, input_shapes: Mapping[str, tuple[int, ...]] | None = None) -> Graph:
    """The view of `model`, which is only read.

    Args:
        model: any model.
        input_shapes: sizes to count multiply-accumulates with, by input name; without it an unknown first
            size counts as 1, any other as 64.
    """
    names = Names(model)
    sizes = _concrete_sizes(model, input_shapes)
    constant: dict[str, bool] = {}
    nodes: list[Node] = []
    values: list[Value] = []
    for name, native in names.nodes.items():
        inputs = tuple(names.value(native.input_value(i)) for i in range(native.get_input_size()))
        is_constant = _is_constant(native, inputs, constant)
        outputs = [native.output(i) for i in range(native.get_output_size())]
        made = [_value(names, output, name, is_constant) for output in outputs]
        constant.update({value.name: is_constant for value in made})
        values.extend(made)
        known = sizes.get(name) or _sizes(native)
        nodes.append(_node(name, native, inputs, tuple(v.name for v in made), constant, known))
    _mark_depth(nodes)
    fingerprint = _fingerprint(names)
    return Graph(nodes, values, lambda value: read_constant(names.output(value)), fingerprint, _notes(nodes))


def read_constant(output: Any) -> NDArray[Any]:
    """The array of an output that depends on constants only."""
    return np.asarray(_evaluate(output, {}).data).copy()


def _evaluate(output: Any, memo: dict[int, list[ov.Tensor]]) -> ov.Tensor:
    node = output.get_node()
    if node.get_type_name() == "Constant":
        return ov.Tensor(node.data, shared_memory=False) if node.get_element_type() != ov.Type.bf16 else _f32(node)
    key = node.get_instance_id()
    if key not in memo:
        sources = [_evaluate(node.input_value(i), memo) for i in range(node.get_input_size())]
        results = [
            ov.Tensor(node.get_output_element_type(i), node.output(i).get_shape())
            for i in range(node.get_output_size())
        ]
        node.evaluate(results, sources)
        memo[key] = results
    return memo[key][output.get_index()]


def _f32(node: Any) -> ov.Tensor:
    return ov.Tensor(node.get_data(dtype=np.float32), shared_memory=False)


def _is_constant(native: Any, inputs: tuple[str, ...], constant: dict[str, bool]) -> bool:
    kind = native.get_type_name()
    if kind == "Constant":
        return True
    return bool(inputs) and kind not in _NEVER_CONSTANT and all(constant[v] for v in inputs)


def _value(names: Names, output: Any, producer: str, is_constant: bool) -> Value:
    # Nodes that lead to no output, and other models that share a constant, read it too.
    readers = [i for i in output.get_target_inputs() if i.get_node() in names]
    uses = [Use(names.of(i.get_node()), i.get_index()) for i in readers]
    element = output.get_element_type().to_string()
    return Value(
        name=names.value(output),
        producer=producer,
        uses=tuple(sorted(uses, key=lambda use: (use.node, use.index))),
        shape=partial_shape(output),
        dtype=_DTYPES.get(element, element),
        is_constant=is_constant,
    )


def partial_shape(output: Any) -> tuple[int | None, ...] | None:
    """Sizes of an output, None where they are unknown."""
    shape = output.get_partial_shape()
    if shape.rank.is_dynamic:
        return None
    return tuple(None if size.is_dynamic else size.get_length() for size in shape)


def _node(
    name: str,
    native: Any,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    constant: dict[str, bool],
    shapes: list[tuple[int, ...]],
) -> Node:
    contraction, attrs = contraction_of(native, [constant[v] for v in inputs])
    if native.get_type_name() == "Pad" and not _carries_int8(native, [constant[v] for v in inputs]):
        attrs = {**attrs, "arithmetic": True}
    return Node(
        name=name,
        kind=KINDS.get(native.get_type_name(), OpKind.OTHER),
        native_type=native.get_type_name(),
        inputs=inputs,
        outputs=outputs,
        contraction=contraction,
        macs=macs_of(native, contraction, shapes),
        attrs=attrs,
    )


def _mark_depth(nodes: list[Node]) -> None:
    """Grouped convolutions with one input channel to a group are depthwise."""
    for i, node in enumerate(nodes):
        if node.kind is OpKind.GROUP_CONVOLUTION and node.attrs.get("group_inputs") == 1:
            nodes[i] = Node(**{**vars(node), "kind": OpKind.DEPTHWISE_CONVOLUTION})


def _carries_int8(pad: Any, constant: list[bool]) -> bool:
    """Whether a quantizer may stand above `pad`: it adds no value, and the runtime's int8 kernel can pad like it."""
    if not all(constant[1:]) or any(np.any(read_constant(pad.input_value(i)) < 0) for i in (1, 2)):
        return False
    if pad.get_attributes().get("pad_mode") != "constant":
        return True  # reflect and edge repeat values that the range already covers
    if pad.get_input_size() < 4:
        return True
    return not np.any(read_constant(pad.input_value(3)))


def _concrete_sizes(
    model: ov.Model, input_shapes: Mapping[str, tuple[int, ...]] | None
) -> dict[str, list[tuple[int, ...]]]:
    """Output sizes of the nodes with all inputs static, falling back to 1 for what stays unknown.

    Making a model static may fold nodes away; these are missing here.
    """
    reshaped = model
    if model.is_dynamic():
        reshaped = model.clone()
        wanted = {port: _assumed(port, input_shapes or {}) for port in reshaped.inputs}
        try:
            reshaped.reshape(wanted)
        except RuntimeError:
            reshaped = model  # the model does not accept the assumed sizes: count with what is known
    return {name: _sizes(node) for name, node in Names(reshaped).nodes.items()}


def _sizes(node: Any) -> list[tuple[int, ...]]:
    return [tuple(size or 1 for size in partial_shape(out) or ()) for out in node.outputs()]


def _assumed(port: Any, input_shapes: Mapping[str, tuple[int, ...]]) -> ov.PartialShape:
    for name in [*port.get_names(), port.get_node().get_friendly_name()]:
        if name in input_shapes:
            return ov.PartialShape(list(input_shapes[name]))
    shape = partial_shape(port)
    if shape is None:
        return port.get_partial_shape()
    sizes = [size if size is not None else (1 if i == 0 else _DYNAMIC_SIZE) for i, size in enumerate(shape)]
    return ov.PartialShape(sizes)


def _fingerprint(names: Names) -> str:
    digest = hashlib.sha256()
    for name, native in names.nodes.items():
        inputs = [names.value(native.input_value(i)) for i in range(native.get_input_size())]
        shapes = [str(out.get_partial_shape()) for out in native.outputs()]
        types = [out.get_element_type().to_string() for out in native.outputs()]
        attributes = sorted(native.get_attributes().items())
        digest.update(repr((name, native.get_type_name(), inputs, shapes, types, attributes)).encode())
        for body in bodies(native):
            digest.update(_fingerprint(Names(body)).encode())
        if native.get_type_name() == "Constant":
            data = native.data if native.get_element_type() != ov.Type.bf16 else native.get_data(dtype=np.float32)
            digest.update(np.ascontiguousarray(data).data if data.size else b"")
    return digest.hexdigest()


def _notes(nodes: list[Node]) -> tuple[str, ...]:
    bodies = [node.name for node in nodes if node.kind is OpKind.CONTROL_FLOW]
    return (f"bodies of {', '.join(bodies)} stay float",) if bodies else ()
