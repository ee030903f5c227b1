"""What the runtime really executes in integers, read from the compiled model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

_INTEGER = re.compile(r"_[iu]8$|_[iu]8_|^ref_.*[iu]8", re.IGNORECASE)
_LAYERS = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul", "GroupConvolution"})
_SUFFIX = re.compile(r"(/Dequantization\w+|_original|/fake_quantize/smooth)$")
_CODES = re.compile(r"^(.*):\d+/int8$")


def executed_in_int8(compiled: Any, ops: Iterable[str]) -> dict[str, bool]:
    """For each op, whether its kernel multiplies integers.

    The runtime fuses and renames. A kernel is known by the ops that it came from (`originalLayersNames`) and by
    the int8 codes that it reads, whose names `apply` made from the op's. What disappears inside a fused subgraph,
    as a product of two activations may, cannot be told apart and counts as float.

    Args:
        compiled: an `openvino.CompiledModel`.
        ops: friendly names.
    """
    integer: set[str] = set()
    for node in compiled.get_runtime_model().get_ops():
        if info(node, "layerType") in _LAYERS and _INTEGER.search(info(node, "primitiveType")):
            integer.update(origins(node))
            integer.update(_owners(node))
    return {op: op in integer for op in ops}


def info(node: Any, key: str) -> str:
    """One property of a node of the runtime graph; empty where it has none."""
    found = node.get_rt_info()
    return str(found[key].astype(str)) if key in found else ""


def origins(node: Any) -> list[str]:
    """The ops of the model that a node of the runtime graph came from."""
    parts = info(node, "originalLayersNames").split(",")
    return [*parts, *(_SUFFIX.sub("", part) for part in parts)]


def _owners(node: Any) -> Iterator[str]:
    """Ops whose int8 codes the kernel reads, directly or rearranged."""
    for index in range(1, node.get_input_size()):
        source = node.input_value(index).get_node()
        while info(source, "layerType") in {"Transpose", "Reorder", "Reshape"}:
            source = source.input_value(0).get_node()
        found = _CODES.match(info(source, "originalLayersNames"))
        if found:
            yield found[1]
