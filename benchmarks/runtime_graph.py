"""What the runtime really executes in int8: the share of multiply-accumulates, from the runtime graph.

Names of ops get lost when the runtime fuses, so the work of a runtime node is computed from its own shapes.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import openvino as ov


@dataclass(frozen=True)
class Coverage:
    """Multiply-accumulates (MACs) of a compiled model, by the precision of the primitives that run them.

    Attributes:
        macs: Of all convolutions and matrix products of the model.
        int8_share: Of these, the share in int8 primitives.
        hidden_share: The share inside fused nodes that tell no shapes, as attention; counted as float.
        int8_ops: Runtime nodes that are convolutions or matrix products, in int8.
        float_ops: The names of those that are not.
    """

    macs: int
    int8_share: float
    hidden_share: float
    int8_ops: list[str]
    float_ops: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def coverage(model: ov.Model, inputs: Any, config: dict[str, Any]) -> Coverage:
    """Compiles the model for the shapes of one sample and reads what was chosen for each op."""
    static = model.clone()
    static.reshape({port.get_index(): list(array.shape) for port, array in _by_port(static, inputs)})
    total = sum(op_macs(op) for op in static.get_ops())
    compiled = ov.Core().compile_model(static, "CPU", config)
    work = {True: 0, False: 0}
    names: dict[bool, list[str]] = {True: [], False: []}
    for node in compiled.get_runtime_model().get_ops():
        if macs := node_macs(node):
            work[is_int8(node)] += macs
            names[is_int8(node)].append(_info(node, "originalLayersNames"))
    total = max(total, sum(work.values()), 1)
    hidden = total - sum(work.values())
    return Coverage(total, work[True] / total, hidden / total, names[True], names[False])


def op_macs(op: ov.Node) -> int:
    """Multiply-accumulates of one op with static shapes; 0 for all but convolutions and products."""
    kind = op.get_type_name()
    if kind == "ScaledDotProductAttention":
        query, key, value = (_shape(op.input(i)) for i in range(3))
        return prod(query[:-1]) * key[-2] * (key[-1] + value[-1])
    if kind.endswith(("Convolution", "ConvolutionBackpropData")):
        return _convolution_macs(op, backward=kind.endswith("BackpropData"))
    return _product_macs(op) if kind == "MatMul" else 0


def node_macs(node: ov.Node) -> int:
    """The same for a node of the runtime graph."""
    kind = _info(node, "layerType")
    if kind in ("Convolution", "Deconvolution"):
        return _convolution_macs(node, backward=kind == "Deconvolution")
    return _product_macs(node) if kind in ("FullyConnected", "MatMul") else 0


def is_int8(node: ov.Node) -> bool:
    """Whether a runtime node runs an int8 primitive, as `brgconv_avx512_i8`."""
    return _info(node, "primitiveType").lower().endswith(("_i8", "_u8"))


def _convolution_macs(op: ov.Node, backward: bool) -> int:
    moving = _shape(op.input(0) if backward else op.output(0))
    return prod(moving) * prod(_shape(op.input(1))) // moving[1]


def _product_macs(op: ov.Node) -> int:
    left, result = _shape(op.input(0)), _shape(op.output(0))
    plain = len(left) < 2 or len(result) < 2 or left[-2] == result[-2]
    return prod(result) * (left[-1] if plain else left[-2])


def _shape(port: Any) -> list[int]:
    return [int(size) for size in port.get_shape()]


def _info(node: ov.Node, key: str) -> str:
    info = node.get_rt_info()
    return str(info[key].astype(str)) if key in info else ""


def _by_port(model: ov.Model, inputs: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(inputs, dict):
        yield from ((model.input(name), array) for name, array in inputs.items())
    elif isinstance(inputs, tuple | list):
        yield from zip(model.inputs, inputs, strict=True)
    else:
        yield model.input(), inputs
