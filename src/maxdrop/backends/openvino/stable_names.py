"""Names that do not depend on what a process made before."""

from __future__ import annotations

from itertools import count
from typing import Any

import openvino as ov

_NAMED_BY_USERS = {
    "Convolution", "ConvolutionBackpropData", "GroupConvolution", "GroupConvolutionBackpropData", "MatMul",
}  # fmt: skip


def with_stable_names(model: ov.Model) -> ov.Model:
    """A copy in which nodes that nobody named are called by type and position.

    OpenVINO numbers such nodes through the whole process, so the same file gives other names when it is read again.
    Convolutions and products keep theirs, because an ignored scope may hold what `get_friendly_name` said.
    """
    copy = model.clone()
    _name_by_position(copy, _given_by_openvino(model))
    return copy


def _given_by_openvino(model: ov.Model) -> set[str]:
    """The names that nobody chose; a copy no longer tells."""
    found = set()
    for node in model.get_ops():
        if node.get_friendly_name() == node.get_name() and node.get_type_name() not in _NAMED_BY_USERS:
            found.add(node.get_friendly_name())
        for body in bodies(node):
            found |= _given_by_openvino(body)
    return found


def _name_by_position(model: ov.Model, replaced: set[str]) -> None:
    taken = {node.get_friendly_name() for node in model.get_ops()}
    numbers: dict[str, count[int]] = {}
    for node in model.get_ordered_ops():
        for body in bodies(node):
            _name_by_position(body, replaced)
        made_by_copying = node.get_friendly_name() == node.get_name()  # as the pad value of a Pad that had none
        if made_by_copying or node.get_friendly_name() in replaced:
            kind = node.get_type_name()
            free = (name for number in numbers.setdefault(kind, count()) if (name := f"{kind}@{number}") not in taken)
            node.set_friendly_name(next(free))


def bodies(node: Any) -> list[ov.Model]:
    """The models inside a node of control flow."""
    kind = node.get_type_name()
    if kind == "If":
        return [node.get_then_body(), node.get_else_body()]
    return [node.get_function()] if kind in {"Loop", "TensorIterator"} else []
