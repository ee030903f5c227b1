"""Unique, stable names for the nodes and values of an OpenVINO model."""

from __future__ import annotations

from typing import Any

import openvino as ov


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
