"""Sizes of values, as far as they are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import openvino as ov

from maxdrop.backends.openvino.feed import keyed_inputs
from maxdrop.backends.openvino.naming import Names

Shape = tuple[int | None, ...]
"""Sizes, None where they are unknown."""


def partial_shape(output: Any) -> Shape | None:
    """Sizes of an output, None where they are unknown; None as a whole for an unknown rank."""
    shape = output.get_partial_shape()
    if shape.rank.is_dynamic:
        return None
    return tuple(None if size.is_dynamic else size.get_length() for size in shape)


def known_sizes(model: ov.Model, sample: Any) -> dict[str, Shape]:
    """Sizes of every value when the model reads `sample`; empty where the model does not accept it."""
    static = model.clone()
    ports = static.inputs
    try:
        given = keyed_inputs(sample, ports)
        static.reshape({_port(ports, key): ov.PartialShape(list(x.shape)) for key, x in given.items()})
    except (RuntimeError, TypeError, ValueError, KeyError, IndexError):
        return {}  # the run itself explains what is wrong with the sample
    names = Names(static)
    outputs = [out for node in names.nodes.values() for out in node.outputs()]
    return {names.value(out): shape for out in outputs if (shape := partial_shape(out)) is not None}


def _port(ports: Sequence[Any], key: Any) -> Any:
    if isinstance(key, int):
        return ports[key]
    named: Mapping[str, Any] = {name: port for port in ports for name in port.get_names()}
    return named[str(key)]
