"""What the runtime really executes in integers, read from the compiled model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_INTEGER = re.compile(r"_[iu]8$|_[iu]8_|^ref_.*[iu]8", re.IGNORECASE)


def executed_in_int8(compiled: Any, ops: Iterable[str]) -> dict[str, bool]:
    """For each op, whether its kernel multiplies integers.

    The runtime fuses and renames; a kernel names the ops that it came from in `originalLayersNames`. An op that
    no kernel names counts as float.

    Args:
        compiled: an `openvino.CompiledModel`.
        ops: friendly names.
    """
    integer: set[str] = set()
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if "primitiveType" not in info or "originalLayersNames" not in info:
            continue
        kernel = str(info["primitiveType"].astype(str))
        layer = str(info["layerType"].astype(str))
        if _INTEGER.search(kernel) and layer in _LAYERS:
            integer.update(_origins(str(info["originalLayersNames"].astype(str))))
    return {op: op in integer for op in ops}


_LAYERS = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul", "GroupConvolution"})
_SUFFIX = re.compile(r"(/Dequantization\w+|_original)$")


def _origins(names: str) -> list[str]:
    parts = names.split(",")
    return [*parts, *(_SUFFIX.sub("", part) for part in parts)]
