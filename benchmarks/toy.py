"""A toy task and toy tools that test the harness: `run benchmarks.toy:task --peer benchmarks.toy:hang`."""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from benchmarks.peers import Job
from benchmarks.task import Split, Task, cached_model, split_items

_SIZE = 8


def task() -> Task:
    """A two-layer network whose labels are its own answers, so that the float metric is 1."""
    return Task(
        name="toy",
        metric="agreement with the float model",
        model=_model,
        split=_split,
        transform=lambda item: item[0],
        validate=_validate,
    )


def identity(job: Job) -> ov.Model:
    """Returns the float model, having scored it once in mode `control`."""
    model = job.read()
    if job.mode == "control":
        compiled = ov.Core().compile_model(model, "CPU", job.config)
        compiled(job.task.transform(job.calibration[0]))
        job.validate(compiled, job.validation)
    return model


def crash(job: Job) -> ov.Model:
    """Ends the process without a traceback."""
    print("toy crash", flush=True)
    os._exit(17)


def fail(job: Job) -> ov.Model:
    """Raises."""
    raise RuntimeError("toy failure")


def hang(job: Job) -> ov.Model:
    """Does not end."""
    time.sleep(3600)
    return job.read()


def wrong(job: Job) -> ov.Model:
    """Returns a model with another output shape."""
    model = job.read()
    result = model.get_results()[0]
    narrow = ops.reduce_sum(result.input_value(0), np.array([1], np.int64), keep_dims=True)
    return ov.Model([narrow], model.get_parameters(), "wrong")


def _weights() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    first = random.standard_normal((_SIZE, _SIZE)).astype(np.float32)
    return first, random.standard_normal((_SIZE, _SIZE)).astype(np.float32)


def _model() -> Path:
    return cached_model("toy", _build)


def _build() -> ov.Model:
    first, second = _weights()
    source = ops.parameter([1, _SIZE], np.float32, name="x")
    hidden = ops.relu(ops.matmul(source, first, False, False))
    return ov.Model([ops.matmul(hidden, second, False, False)], [source], "toy")


def _split(seed: int) -> Split:
    first, second = _weights()
    inputs = np.random.default_rng(1).standard_normal((48, 1, _SIZE)).astype(np.float32)
    items = [(x, int((np.maximum(x @ first, 0) @ second).argmax())) for x in inputs]
    return split_items(items, seed, 16, 16, 16)


def _validate(compiled: ov.CompiledModel, items: Iterable[Any]) -> tuple[float, list[float]]:
    values = [float(compiled(x)[0].argmax() == label) for x, label in items]
    return float(np.mean(values)), values
