"""A defect of OpenVINO 2026.4 on processors with AMX: int8 scores of attention with one mask for all queries."""

from __future__ import annotations

from typing import Any

from maxdrop.backends.openvino.isa import has_int8_tiles

_REASON = "OpenVINO computes an int8 product wrongly on this processor when one mask for all its rows is added to it"
_SCALED = {"Multiply", "Divide"}


def masked_product(native: Any) -> dict[str, str]:
    """`float_only` for a product of two activations that would be computed wrongly (SQNR below 0 dB); else nothing.

    Args:
        native: an OpenVINO MatMul.
    """
    return {"float_only": _REASON} if has_int8_tiles() and _is_masked(native.output(0)) else {}


def _is_masked(scores: Any) -> bool:
    """Whether an addition, behind nothing but a scale, repeats its other operand along the rows of `scores`."""
    for reader in scores.get_target_inputs():
        node = reader.get_node()
        if node.get_type_name() in _SCALED and _is_masked(node.output(0)):
            return True
        if node.get_type_name() == "Add" and _is_repeated(node.input_value(1 - reader.get_index())):
            return True
    return False


def _is_repeated(mask: Any) -> bool:
    shape = mask.get_partial_shape()
    if shape.rank.is_dynamic:
        return True
    rows = shape[len(shape) - 2] if len(shape) > 1 else None
    return rows is None or rows.is_dynamic or rows.get_length() == 1
