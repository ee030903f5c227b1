"""Residual networks of any depth and size, for cost against size; the metric is 1 - NMSE to the float output.

As in real transformers some channels are 30 times larger than the rest, which smoothing mends, and in one block of
five some tokens are up to 1000 times larger than others, which no scheme for whole tensors mends: it takes a search.
"""

from functools import partial
from math import isqrt
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from benchmarks.task import Split, Task, cached_model, split_items
from benchmarks.tasks.scoring import fidelity

_COUNTS = (64, 64, 32)
_TOKENS = 64
_WIDTH = 256
_OUTLIER = 30.0
_LARGEST_TOKEN = 1000.0
_LARGE_MODEL_OPS = 50


def by_ops(count: int) -> Task:
    """A network of `count` matrix products, wide enough for int8 to pay."""
    return _task(f"scale-ops-{count}", count, _WIDTH)


def by_megabytes(megabytes: int) -> Task:
    """A network of 50 matrix products whose float weights take so many megabytes."""
    return _task(f"scale-mb-{megabytes}", _LARGE_MODEL_OPS, isqrt(megabytes * 250_000 // _LARGE_MODEL_OPS))


def _task(name: str, count: int, width: int) -> Task:
    model = partial(cached_model, name, partial(_build, count, width))
    split = partial(_split, model, width)
    return Task(name, "1 - NMSE to the float output", model, split, lambda item: item[0], fidelity())


def _build(count: int, width: int) -> ov.Model:
    random = np.random.default_rng(0)
    source = ops.parameter([1, _TOKENS, width], np.float32, name="x")
    stream: Any = source
    for block in range(count // 2):
        hard = block % 5 == 0
        outliers = np.ones(width, np.float32)
        if hard:
            outliers[random.choice(width, max(1, width // 50), replace=False)] = _OUTLIER
        up = random.standard_normal((width, width), np.float32) / np.float32(np.sqrt(width)) * outliers
        down = random.standard_normal((width, width), np.float32) / np.float32(np.sqrt(2 * width * count))
        hidden = ops.relu(ops.matmul(stream, up, False, False, name=f"up{block}"))
        tokens = (_LARGEST_TOKEN ** random.uniform(0, 1, (1, _TOKENS, 1))).astype(np.float32)
        large = ops.multiply(hidden, tokens) if hard else hidden
        product = ops.matmul(large, down / outliers[:, None], False, False, name=f"down{block}")
        stream = ops.add(stream, ops.divide(product, tokens) if hard else product)
    return ov.Model([ops.relu(stream)], [source], "synthetic")


def _split(model: Any, width: int, seed: int) -> Split:
    random = np.random.default_rng(1)
    inputs = random.standard_normal((sum(_COUNTS), 1, _TOKENS, width)).astype(np.float32)
    stored = model().with_suffix(".outputs.npz")
    if not stored.exists():
        compiled = ov.Core().compile_model(model(), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        np.savez(stored, outputs=np.stack([compiled(x)[0] for x in inputs]))
    return split_items(list(zip(inputs, np.load(stored)["outputs"], strict=True)), seed, *_COUNTS)
