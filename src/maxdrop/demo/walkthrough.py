"""`maxdrop demo`: float, plain int8 and accuracy-controlled int8 of the bundled model, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import maxdrop as md
from maxdrop import demo
from maxdrop.commands.finish import finished_trials, resume_line
from maxdrop.inspection import inspect_model

_BLOCKS = 15

_CONFIG = {"INFERENCE_PRECISION_HINT": "f32"}
"""Float is float32 in the demo: where it is bfloat16 in AMX tiles, int8 pays on no part of so small a network."""


@dataclass(frozen=True)
class Column:
    """One model of the comparison.

    Attributes:
        name: for people.
        metric: accuracy on all validation images.
        drop: accuracy lost against the float model.
        passes: whether the drop is within the limit.
        seconds: median latency of one image, measured in turns with the others.
        speedup: latency of the float model over this one's, median over pairs of blocks.
        int8_share: share of the multiply-accumulates that the runtime executes in int8.
        int8_ops: number of convolutions and matrix products that it executes in int8.
        float_ops: number of the others.
    """

    name: str
    metric: float
    drop: float
    passes: bool
    seconds: float
    speedup: float
    int8_share: float
    int8_ops: int
    float_ops: int


@dataclass(frozen=True)
class Walkthrough:
    """All that `maxdrop demo` shows."""

    columns: tuple[Column, ...]
    result: md.AccuracyControlResult
    resumed: str
    report: Path


def walk_through(folder: str | Path, max_drop: float = 0.005) -> Walkthrough:
    """Quantize the bundled model without and with accuracy control, and compare.

    Args:
        folder: for model, plan, trace and report; the same folder again continues or repeats from the trace.
        max_drop: largest allowed drop of the accuracy.
    """
    target = Path(folder)
    model = demo.load_model()
    calibration = md.Dataset(demo.calibration_items())
    validation = md.Dataset(demo.validation_items())
    before = finished_trials(target)
    result = md.control_accuracy(
        model,
        calibration,
        validation,
        demo.validate,
        max_drop=max_drop,
        compile_config=_CONFIG,
        output_dir=target,
    )
    plain = md.quantize(model, calibration, compile_config=_CONFIG)
    metrics = [result.float_metric, _plain_metric(result, plain, validation), result.metric]
    models = [model, plain, result.model]
    blocks = result.backend.latency(models, _CONFIG, demo.calibration_items()[:1], _BLOCKS)
    names = ("float", "plain int8", f"int8 within {max_drop:g}" if result.reached else "result (float)")
    columns = tuple(
        _column(name, made, metric, result.float_metric, max_drop, own, blocks[0])
        for name, made, metric, own in zip(names, models, metrics, blocks, strict=True)
    )
    return Walkthrough(columns, result, resume_line(before, result), target / "report.html")


def _plain_metric(result: md.AccuracyControlResult, plain: Any, validation: md.Dataset) -> float:
    """Accuracy of the plainly quantized model: accuracy control has scored the same plan already."""
    key = str(plain.get_rt_info(["maxdrop", "plan_key"]).value)
    known = result.trace.find(key)
    if known is not None and known.metric is not None:
        return known.metric
    return demo.validate(result.backend.compile(plain, _CONFIG), validation.get_data())[0]


def _column(
    name: str, model: Any, metric: float, float_metric: float, max_drop: float, blocks: Any, float_blocks: Any
) -> Column:
    found = inspect_model(model, compile_config=_CONFIG)
    int8 = sum(op.executed for op in found.ops)
    return Column(
        name=name,
        metric=metric,
        drop=float_metric - metric,
        passes=float_metric - metric <= max_drop,
        seconds=float(np.median(blocks)),
        speedup=float(np.median(float_blocks / blocks)),
        int8_share=found.executed_share,
        int8_ops=int8,
        float_ops=len(found.ops) - int8,
    )
