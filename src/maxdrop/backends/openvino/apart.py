"""A way around two defects of OpenVINO 2026.4 with quantizers behind a convolution that has several readers.

With a dynamic batch, an addition of a constant in front of a FakeQuantize, and an int8 convolution in front of a
rectifier and a FakeQuantize, are computed wrongly unless they are the convolution's only reader.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as opset


def keep_readers_apart(model: ov.Model) -> None:
    """Put an op that changes nothing between each such convolution of `model` and its readers."""
    for node in model.get_ordered_ops():
        if "Convolution" not in node.get_type_name() or node.output(0).get_partial_shape().is_static:
            continue
        readers = [r for r in node.output(0).get_target_inputs() if r.get_node().get_type_name() != "ShapeOf"]
        if len(readers) > 1:
            set_readers_apart(node.output(0), f"{node.get_friendly_name()}/apart")


def set_readers_apart(value: Any, name: str) -> None:
    """Let each reader of `value` read it through an op of its own; a common one would join the convolution."""
    readers = [r for r in value.get_target_inputs() if r.get_node().get_type_name() != "ShapeOf"]
    for number, reader in enumerate(sorted(readers, key=lambda r: (r.get_node().get_friendly_name(), r.get_index()))):
        reader.replace_source_output(_unchanged(value, f"{name}{number}"))


def _unchanged(value: Any, name: str) -> Any:
    """`value` behind an op that changes nothing and that the runtime does not remove."""
    element_type = value.get_element_type()
    lowest = opset.constant(np.array(np.finfo(element_type.to_dtype()).min), dtype=element_type)
    lowest.set_friendly_name(f"{name}/lowest")
    node = opset.maximum(value, lowest)
    node.set_friendly_name(name)
    return node.output(0)
