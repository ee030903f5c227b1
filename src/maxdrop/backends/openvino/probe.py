"""Which op runs in int8 with which scheme on this machine: tiny models are compiled and their kernels read."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as opset

from maxdrop.backends.openvino.executed import executed_in_int8

OPS = (
    "convolution",
    "grouped convolution",
    "depthwise convolution",
    "transposed convolution",
    "matmul",
    "matmul of two activations",
)
ACTIVATIONS = ("uint8", "int8 symmetric", "asymmetric", "uint8 per channel")
WEIGHTS = ("per channel", "per tensor", "asymmetric")
TWO_ACTIVATIONS = (*ACTIVATIONS, "uint8 x int8 symmetric")
"""Schemes of a product of two activations; " x " separates those of its two inputs."""

_FLAGS = (
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16", "amx_fp16",
    "asimddp", "i8mm", "bf16",
)  # fmt: skip
_CHANNELS = 32
_GROUPS = 4
_TOKENS = 16
_OP = "probed"


def probe() -> dict[str, Any]:
    """What this machine executes in integers.

    Returns:
        JSON-able: "machine", "isa", "cores", "openvino" and "rows", one for each op and scheme of activations and
        weights with "int8" True or False.
    """
    core = ov.Core()
    rows = [
        {"op": op, "activations": activation, "weights": weight, "int8": _runs_in_int8(core, op, activation, weight)}
        for op in OPS
        for activation in (ACTIVATIONS if op != OPS[-1] else TWO_ACTIVATIONS)
        for weight in (WEIGHTS if op != OPS[-1] else ("",))
    ]
    return {**describe_machine(), "openvino": str(ov.get_version()), "rows": rows}


def describe_machine() -> dict[str, Any]:
    """Name of the processor, the instruction sets that matter to int8 and bf16, and the number of cores."""
    info = Path("/proc/cpuinfo")
    facts: dict[str, str] = {}
    for line in info.read_text().splitlines() if info.exists() else ():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    return {
        "machine": facts.get("model name") or platform.processor() or platform.machine(),
        "isa": [flag for flag in _FLAGS if flag in flags],
        "cores": os.cpu_count() or 1,
    }


def _runs_in_int8(core: ov.Core, op: str, activation: str, weight: str) -> bool:
    model = _build(op, activation, weight)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": "1"})
    return executed_in_int8(compiled, [_OP])[_OP]


def _build(op: str, activation: str, weight: str) -> ov.Model:
    """Relu -> FakeQuantize -> the op -> Relu; the op is not the first one, as in real models."""
    shape = [1, _TOKENS, _CHANNELS] if op.startswith("matmul") else [1, _CHANNELS, 16, 16]
    axis = 2 if op.startswith("matmul") else 1
    source = opset.parameter(shape, np.float32, name="x")
    first, _, second = activation.partition(" x ")
    quantized = _activation(opset.relu(source), first, axis, len(shape))
    parameters = [source]
    if op == OPS[-1]:
        other = opset.parameter([1, _CHANNELS, _TOKENS], np.float32, name="y")
        parameters.append(other)
        made = opset.matmul(quantized, _activation(opset.relu(other), second or first, 2, 3), False, False)
    else:
        made = _MAKERS[op](quantized, weight)
    made.set_friendly_name(_OP)
    return ov.Model([opset.result(opset.relu(made))], parameters, "probe")


def _activation(source: Any, scheme: str, axis: int, rank: int) -> Any:
    """A FakeQuantize with 256 levels; every zero point is an integer."""
    scale = np.float32(0.02)
    low, high = {"int8 symmetric": (-128, 127), "asymmetric": (-100, 155)}.get(scheme, (0, 255))
    ends = [np.full([1] * rank, code * scale, np.float32) for code in (low, high)]
    if scheme == "uint8 per channel":
        kept = [1] * rank
        kept[axis] = source.get_output_shape(0)[axis]
        ramp = np.linspace(1, 2, kept[axis], dtype=np.float32).reshape(kept)
        ends = [end * ramp for end in ends]
    bounds = [opset.constant(end) for end in ends]
    return opset.fake_quantize(source, *bounds, *bounds, 256)


def _weight(shape: tuple[int, ...], kept: tuple[int, ...], scheme: str) -> Any:
    """int8 codes, with a scale for each index of the axes `kept`."""
    codes = np.random.default_rng(0).integers(-127, 128, shape).astype(np.int8)
    node = opset.convert(opset.constant(codes), "f32")
    axes = () if scheme == "per tensor" else kept
    scales = [size if i in axes else 1 for i, size in enumerate(shape)]
    if scheme == "asymmetric":
        node = opset.subtract(node, opset.constant(np.full(scales, 3, np.float32)))
    ramp = np.linspace(0.01, 0.02, int(np.prod(scales)), dtype=np.float32).reshape(scales)
    return opset.multiply(node, opset.constant(ramp))


def _convolution(source: Any, scheme: str) -> Any:
    weight = _weight((_CHANNELS, _CHANNELS, 3, 3), (0,), scheme)
    return opset.convolution(source, weight, [1, 1], [1, 1], [1, 1], [1, 1])


def _grouped(groups: int) -> Callable[[Any, str], Any]:
    def make(source: Any, scheme: str) -> Any:
        channels = _CHANNELS // groups
        weight = _weight((groups, channels, channels, 3, 3), (0, 1), scheme)
        return opset.group_convolution(source, weight, [1, 1], [1, 1], [1, 1], [1, 1])

    return make


def _transposed(source: Any, scheme: str) -> Any:
    weight = _weight((_CHANNELS, _CHANNELS, 2, 2), (1,), scheme)
    return opset.convolution_backprop_data(source, weight, [2, 2], pads_begin=[0, 0], pads_end=[0, 0])


def _matmul(source: Any, scheme: str) -> Any:
    return opset.matmul(source, _weight((_CHANNELS, _CHANNELS), (0,), scheme), False, True)


_MAKERS: dict[str, Callable[[Any, str], Any]] = {
    "convolution": _convolution,
    "grouped convolution": _grouped(_GROUPS),
    "depthwise convolution": _grouped(_CHANNELS),
    "transposed convolution": _transposed,
    "matmul": _matmul,
}
