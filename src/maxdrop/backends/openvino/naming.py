"""Unique, stable names for the nodes and values of an OpenVINO model."""

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


class Names:
    """Names of one model's nodes and values.

    A node is called by its friendly name, with "#1", "#2", ... behind repeated ones; a value by its node, with
    ":1", ":2", ... for any output but the first. The order of the nodes is the topological order that OpenVINO
    gives, so a clone gets the same names.

    Args:
        model: read only.
    """

    def __init__(self, model: ov.Model) -> None:
        self.nodes: dict[str, ov.Node] = {}
        self._by_id: dict[int, str] = {}
        self._outputs: dict[str, Any] = {}
        self._values: dict[tuple[int, int], str] = {}
        repeats: dict[str, int] = {}
        ordered = model.get_ordered_ops()
        taken = {node.get_friendly_name() for node in ordered}
        for node in ordered:
            friendly = node.get_friendly_name()
            name = friendly
            while name in self.nodes or (name != friendly and name in taken):
                repeats[friendly] = repeats.get(friendly, 0) + 1
                name = f"{friendly}#{repeats[friendly]}"
            self.nodes[name] = node
            self._by_id[node.get_instance_id()] = name
        for name, node in self.nodes.items():
            for output in node.outputs():
                self._add_value(name, output)

    def _add_value(self, node: str, output: Any) -> None:
        index = output.get_index()
        value = node if index == 0 else f"{node}:{index}"
        while index > 0 and value in self.nodes:  # a node may be called "split:1"
            value += "'"
        self._outputs[value] = output
        self._values[output.get_node().get_instance_id(), index] = value

    def __contains__(self, node: Any) -> bool:
        return node.get_instance_id() in self._by_id

    def of(self, node: Any) -> str:
        """The name of `node`, which must belong to the model."""
        return self._by_id[node.get_instance_id()]

    def value(self, output: Any) -> str:
        """The name of a value."""
        return self._values[output.get_node().get_instance_id(), output.get_index()]

    def output(self, value: str) -> Any:
        """The output behind a value's name."""
        return self._outputs[value]
