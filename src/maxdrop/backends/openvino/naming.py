"""Unique, stable names for the nodes and values of an OpenVINO model."""

from __future__ import annotations

from typing import Any

import openvino as ov


class Names:
    """Names of one model's nodes: the friendly name, with "#1", "#2", ... behind repeated ones.

    The order of the nodes is the topological order that OpenVINO gives, so a clone gets the same names.

    Args:
        model: read only.
    """

    def __init__(self, model: ov.Model) -> None:
        self.nodes: dict[str, ov.Node] = {}
        self._by_id: dict[int, str] = {}
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

    def of(self, node: Any) -> str:
        """The name of `node`, which must belong to the model."""
        return self._by_id[node.get_instance_id()]

    def value(self, output: Any) -> str:
        """The name of a value: its node's, with ":i" behind it for any output but the first."""
        node = self.of(output.get_node())
        return node if output.get_index() == 0 else f"{node}:{output.get_index()}"

    def output(self, value: str) -> Any:
        """The output behind a value's name."""
        if value in self.nodes:
            return self.nodes[value].output(0)
        node, _, index = value.rpartition(":")
        return self.nodes[node].output(int(index))
