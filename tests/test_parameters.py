"""Each parameter of `quantize`, by what it does to the model that comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset13 as op

import maxdrop as md
from maxdrop.options import (
    AdvancedBiasCorrectionParameters,
    AdvancedQuantizationParameters,
    AdvancedSmoothQuantParameters,
    ModelType,
    OverflowFix,
    QuantizationParameters,
    QuantizationPreset,
    RangeEstimatorParameters,
    StatisticsCollectorParameters,
    TargetDevice,
)
from tests.graphs.check import content, recorded
from tests.graphs.layers import const, conv, depthwise, ints, linear, model, named, normal, parameter, rng

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Facts:
    """What a quantized model holds: ends of the activation ranges, codes and scales of weights, added constants."""

    low: Arrays
    high: Arrays
    levels: dict[str, int]
    codes: Arrays
    scale: Arrays
    added: Arrays
    smoothed: Arrays
    key: str


def facts(quantized: ov.Model) -> Facts:
    found = Facts({}, {}, {}, {}, {}, {}, {}, recorded(quantized, "plan_key"))
    for node in quantized.get_ordered_ops():
        name, kind = node.get_friendly_name(), node.get_type_name()
        if kind == "FakeQuantize":
            value = name.removesuffix("/fake_quantize")
            found.low[value], found.high[value] = (node.input_value(i).get_node().data for i in (1, 2))
            found.levels[value] = node.get_attributes()["levels"]
        elif kind == "Constant" and name.endswith(":1/int8"):
            found.codes[name.removesuffix(":1/int8")] = node.data
        elif kind == "Constant" and name.endswith(":1/scale"):
            found.scale[name.removesuffix(":1/scale")] = node.data
        elif kind == "Constant" and name.endswith("/smooth/factors"):
            found.smoothed[name.split("/")[0]] = node.data
        elif kind == "Add" and name.endswith(("/add", "/add_bias")):
            constants = [node.input_value(i).get_node() for i in (0, 1)]
            found.added[name] = next(c.data for c in constants if c.get_type_name() == "Constant")
    return found


SPREAD = np.array([1, 4, 16, 64], np.float32).reshape(1, 4, 1, 1)
"""Size of the input's channels, which the first weights make up for."""


@cache
def network() -> ov.Model:
    """Two convolutions, a depthwise one, one without bias, and a matrix product."""
    x = parameter((1, 4, 8, 8))
    weight = const(normal("c1", 8, 4, 3, 3, scale=0.2) / SPREAD)
    y = named(op.relu(conv(x, 8, "c1", weight=weight)), "r1")
    y = named(op.swish(depthwise(y, "dw")), "s")
    y = conv(y, 8, "c2", bias=False)
    pooled = named(op.reduce_mean(y, ints(2, 3), False), "pooled")
    return model([linear(pooled, 4, "fc")], [x])


def images(count: int = 16) -> list[NDArray[np.float32]]:
    """Channels of very different size, above zero on the whole, and a sample that is larger than the rest."""
    made = [(rng(f"image{i}").standard_normal((1, 4, 8, 8)) + 0.7) * SPREAD for i in range(count)]
    return [(x * (3 if i == count - 1 else 1)).astype(np.float32) for i, x in enumerate(made)]


def quantized(chosen: dict[str, Any], **advanced: Any) -> ov.Model:
    if advanced:
        chosen = {**chosen, "advanced_parameters": AdvancedQuantizationParameters(**advanced)}
    return md.quantize(network(), md.Dataset(images()), **{"placement": "all", **chosen})


def result(chosen: dict[str, Any] | None = None, **advanced: Any) -> Facts:
    return facts(quantized(chosen or {}, **advanced))


@cache
def default() -> Facts:
    return result()


def is_symmetric(found: Facts, value: str) -> bool:
    return bool(np.allclose(found.low[value] * 127, -128 * found.high[value], rtol=1e-5))


def signed(found: Facts) -> list[str]:
    return [value for value in found.low if found.low[value].min() < 0]


def _activations(**chosen: Any) -> dict[str, Any]:
    return {"activations_quantization_params": QuantizationParameters(**chosen)}


def _weights(**chosen: Any) -> dict[str, Any]:
    return {"weights_quantization_params": QuantizationParameters(**chosen)}


def estimator(end: StatisticsCollectorParameters | None = None, low: Any = None) -> RangeEstimatorParameters:
    return RangeEstimatorParameters(min=low or end or StatisticsCollectorParameters(), max=end or low)


def _reach(found: Facts) -> int:
    return max(int(np.abs(codes.astype(int)).max()) for codes in found.codes.values())


def _reach_of(found: Facts, ops: Iterable[str]) -> list[int]:
    return [int(np.abs(found.codes[op].astype(int)).max()) for op in ops]


ALL = ("c1", "dw", "c2", "fc")
Row = tuple[str, dict[str, Any], dict[str, Any], Callable[[Facts], bool]]
SMOOTH_OFF: dict[str, Any] = {"smooth_quant_alphas": AdvancedSmoothQuantParameters(matmul=-1)}

TABLE: list[Row] = [
    ("defaults", {}, {}, lambda f: set(f.codes) == set(ALL) and not is_symmetric(f, "s")),
    (
        "preset performance",
        {"preset": QuantizationPreset.PERFORMANCE},
        {},
        lambda f: all(is_symmetric(f, v) for v in signed(f)),
    ),
    (
        "preset mixed",
        {"preset": QuantizationPreset.MIXED},
        {},
        lambda f: not any(is_symmetric(f, v) for v in signed(f)),
    ),
    ("target GPU", {"target_device": TargetDevice.GPU}, {}, lambda f: all(is_symmetric(f, v) for v in signed(f))),
    ("target CPU", {"target_device": TargetDevice.CPU}, {}, lambda f: not is_symmetric(f, "s")),
    ("subset size", {"subset_size": 15}, {}, lambda f: f.high["x"].max() < 0.5 * default().high["x"].max()),
    (
        "ignored name",
        {"ignored_scope": md.IgnoredScope(names=["c2"])},
        {},
        lambda f: set(f.codes) == {"c1", "dw", "fc"},
    ),
    (
        "ignored pattern",
        {"ignored_scope": md.IgnoredScope(patterns=["c.$"])},
        {},
        lambda f: set(f.codes) == {"dw", "fc"},
    ),
    (
        "ignored type",
        {"ignored_scope": md.IgnoredScope(types=["Convolution"])},
        {},
        lambda f: set(f.codes) == {"dw", "fc"},
    ),
    (
        "ignored subgraph",
        {"ignored_scope": md.IgnoredScope(subgraphs=[md.Subgraph(inputs=["r1"], outputs=["s"])])},
        {},
        lambda f: set(f.codes) == {"c1", "c2", "fc"},
    ),
    (
        "ignored scope without validation",
        {"ignored_scope": md.IgnoredScope(names=["c1", "nothing"], validate=False)},
        {},
        lambda f: set(f.codes) == {"dw", "c2", "fc"},
    ),
    ("overflow fix", {}, {"overflow_fix": OverflowFix.ENABLE}, lambda f: _reach(f) == 63),
    (
        "overflow fix of the first layer",
        {},
        {"overflow_fix": OverflowFix.FIRST_LAYER},
        lambda f: _reach_of(f, ALL) == [63, 127, 127, 127],
    ),
    ("no overflow fix", {}, {"overflow_fix": OverflowFix.DISABLE}, lambda f: _reach_of(f, ALL) == [127] * 4),
    (
        "no bias correction",
        {},
        {"disable_bias_correction": True},
        lambda f: (
            "c2/add_bias" not in f.added and np.array_equal(f.added["c1/add"].ravel(), normal("c1/bias", 8, scale=0.2))
        ),
    ),
    (
        "bias threshold of nothing",
        {},
        {"bias_correction_params": AdvancedBiasCorrectionParameters(threshold=0)},
        lambda f: "c2/add_bias" not in f.added,
    ),
    (
        "bias threshold that is never reached",
        {},
        {"bias_correction_params": AdvancedBiasCorrectionParameters(threshold=1e9)},
        lambda f: all(np.array_equal(f.added[name], default().added[name]) for name in default().added),
    ),
    (
        "biases for all ops",
        {},
        {"bias_correction_params": AdvancedBiasCorrectionParameters(apply_for_all_nodes=True)},
        lambda f: "c2/add_bias" in f.added and f.key == default().key,
    ),
    ("no SmoothQuant", {}, SMOOTH_OFF, lambda f: not f.smoothed),
    (
        "channel alignment without SmoothQuant",
        {},
        {**SMOOTH_OFF, "disable_channel_alignment": False},
        lambda f: "x" in f.smoothed and "pooled" not in f.smoothed,
    ),
    (
        "SmoothQuant of convolutions",
        {},
        {"smooth_quant_alphas": AdvancedSmoothQuantParameters(convolution=0.5)},
        lambda f: set(f.smoothed) >= {"x", "s"},
    ),
    (
        "SmoothQuant of products",
        {},
        {"smooth_quant_alphas": AdvancedSmoothQuantParameters(matmul=0.5)},
        lambda f: "pooled" in f.smoothed,
    ),
    ("deprecated alpha", {}, {"smooth_quant_alpha": 0.5}, lambda f: "pooled" in f.smoothed),
    ("deprecated alpha off", {}, {"smooth_quant_alpha": -1.0}, lambda f: not f.smoothed),
    ("symmetric activations", {}, _activations(mode="symmetric"), lambda f: all(is_symmetric(f, v) for v in signed(f))),
    (
        "asymmetric activations",
        {"preset": QuantizationPreset.PERFORMANCE},
        _activations(mode="asymmetric"),
        lambda f: not is_symmetric(f, "s"),
    ),
    (
        "signed activations",
        {"preset": QuantizationPreset.PERFORMANCE},
        _activations(signedness_to_force=True),
        lambda f: set(signed(f)) == set(f.low),
    ),
    ("unsigned activations", {}, _activations(signedness_to_force=False), lambda f: not signed(f)),
    (
        "activations by channel",
        {},
        _activations(per_channel=True),
        lambda f: sorted(a.size for a in f.high.values())[-1] == 8,
    ),
    (
        "narrow activations",
        {"preset": QuantizationPreset.PERFORMANCE},
        _activations(narrow_range=True),
        lambda f: all(f.levels[v] == 255 and np.allclose(-f.low[v], f.high[v]) for v in signed(f)),
    ),
    ("8 bits", {}, _activations(num_bits=8), lambda f: set(f.levels.values()) == {256}),
    ("weights with one scale", {}, _weights(per_channel=False), lambda f: {s.size for s in f.scale.values()} == {1}),
    ("weights by channel", {}, _weights(per_channel=True), lambda f: [f.scale[op].size for op in ALL] == [8, 8, 8, 4]),
    (
        "narrow weights",
        {},
        {
            **_weights(narrow_range=True),
            "weights_range_estimator_params": estimator(StatisticsCollectorParameters(clipping_value=0.01)),
        },
        lambda f: {int(c.min()) for c in f.codes.values()} == {-127},
    ),
    (
        "wide weights",
        {},
        {
            **_weights(narrow_range=False),
            "weights_range_estimator_params": estimator(StatisticsCollectorParameters(clipping_value=0.01)),
        },
        lambda f: {int(c.min()) for c in f.codes.values()} == {-128},
    ),
]
"""Name, arguments, advanced parameters, and what must hold for the result."""


@pytest.mark.parametrize(("chosen", "advanced", "holds"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_effect(chosen: dict[str, Any], advanced: dict[str, Any], holds: Callable[[Facts], bool]) -> None:
    assert holds(result(chosen, **advanced))


@pytest.mark.parametrize(
    ("chosen", "advanced"),
    [
        ({"model_type": ModelType.TRANSFORMER}, {}),
        ({}, {"inplace_statistics": False}),
        ({}, {"batchwise_statistics": True}),
        ({}, {"backend_params": {"compress_weights": True}}),
    ],
)
def test_no_effect_and_said_so(chosen: dict[str, Any], advanced: dict[str, Any], tmp_path: Path) -> None:
    """The same file, byte for byte."""
    assert content(quantized(chosen, **advanced), tmp_path) == content(quantized({}), tmp_path)


def test_a_rule_of_the_ignored_scope_that_matches_nothing() -> None:
    with pytest.raises(md.ValidationError, match="nothing"):
        quantized({"ignored_scope": md.IgnoredScope(names=["nothing"])})


def test_quantized_outputs_keep_their_names() -> None:
    plain, found = quantized({}), quantized({}, quantize_outputs=True)
    ends = [m.get_results()[0].input_value(0).get_node() for m in (plain, found)]
    assert [end.get_type_name() for end in ends] == ["Add", "FakeQuantize"]
    assert [port.get_names() for port in found.outputs] == [port.get_names() for port in network().outputs]
    values = np.concatenate([ov.compile_model(found)(x)[0].ravel() for x in images()])
    low, high = (ends[1].input_value(i).get_node().data.item() for i in (1, 2))
    step = (high - low) / 255
    np.testing.assert_allclose(values / step, np.rint(values / step), atol=1e-2)
