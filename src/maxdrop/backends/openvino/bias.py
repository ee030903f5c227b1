"""Adding a constant to an op's output, in the bias that is already there or in a new one."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as opset

from maxdrop.backends.openvino.graph import read_constant


def add_shift(node: Any, shift: NDArray[np.float32]) -> None:
    """Add `shift`, one number per output channel, to the output of `node`.

    Scaling by a constant between the op and its bias (an unfused batch normalisation) is followed, so that op,
    scaling and bias still fuse into one kernel.
    """
    rank = node.get_output_partial_shape(0).rank.get_length()
    axis = rank - 1 if node.get_type_name() == "MatMul" else 1
    wide = shift.reshape([-1 if i == axis else 1 for i in range(rank)])
    output = node.output(0)
    while True:
        reader = _sole_reader(output)
        found = _constant_operand(reader, wide.shape) if reader is not None else None
        if reader is None or found is None:
            break
        index, constant = found
        if reader.get_type_name() == "Add":
            _replace(reader, index, constant + wide)
            return
        wide = wide * constant
        output = reader.output(0)
    _insert(output, wide, node.get_friendly_name())


def _sole_reader(output: Any) -> Any | None:
    """The one reader of the numbers, if it adds or multiplies; whoever asks for the shape does not count."""
    readers = [r for r in output.get_target_inputs() if r.get_node().get_type_name() != "ShapeOf"]
    if len(readers) != 1:
        return None
    reader = readers[0].get_node()
    return reader if reader.get_type_name() in {"Add", "Multiply"} else None


def _constant_operand(reader: Any, shape: tuple[int, ...]) -> tuple[int, NDArray[Any]] | None:
    """Input number and array of the constant operand, if it varies along no axis but the channels'."""
    for index in (0, 1):
        source = reader.input_value(index)
        if not _is_constant(source.get_node()):
            continue
        data = read_constant(source).astype(np.float32)
        if data.ndim > len(shape):
            return None
        data = data.reshape((1,) * (len(shape) - data.ndim) + data.shape)
        fits = all(size in (1, wanted) for size, wanted in zip(data.shape, shape, strict=True))
        return (index, data) if fits else None
    return None


def _is_constant(node: Any) -> bool:
    if node.get_type_name() == "Constant":
        return True
    inputs = [node.input_value(i).get_node() for i in range(node.get_input_size())]
    return node.get_type_name() == "Convert" and all(_is_constant(n) for n in inputs)


def _replace(reader: Any, index: int, data: NDArray[Any]) -> None:
    old = reader.input_value(index)
    reader.input(index).replace_source_output(_constant(data, old.get_element_type(), f"{_name(reader)}/bias"))


def _insert(output: Any, data: NDArray[Any], op: str) -> None:
    readers = list(output.get_target_inputs())
    tensor_names = output.get_tensor().get_names()
    bias = _constant(data, output.get_element_type(), f"{op}/bias")
    add = opset.add(output, bias)
    add.set_friendly_name(f"{op}/add_bias")
    for reader in readers:
        reader.replace_source_output(add.output(0))
    if tensor_names and any(reader.get_node().get_type_name() == "Result" for reader in readers):
        output.get_tensor().set_names(set())
        add.output(0).get_tensor().set_names(tensor_names)


def _constant(data: NDArray[Any], element_type: ov.Type, name: str) -> Any:
    node = opset.constant(np.ascontiguousarray(data), dtype=element_type)
    node.set_friendly_name(name)
    return node.output(0)


def _name(node: Any) -> str:
    return str(node.get_friendly_name())
