"""all-MiniLM-L6-v2 on the STS benchmark: Spearman correlation of cosine similarity with human scores."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import openvino as ov
from scipy.stats import spearmanr

from benchmarks.task import Split, Task, split_items
from benchmarks.tasks.zoo_folder import zoo

_CALIBRATION, _VALIDATION, _HELD_OUT = 300, 1000, 500


def task() -> Task:
    """Calibration: 300 sentences of the train part. Validation and held out: 1000 and 500 dev pairs."""
    return Task(
        name="minilm",
        metric="Spearman correlation on STS-B",
        model=lambda: zoo("minilm.xml"),
        split=_split,
        transform=lambda pair: pair["a"],
        validate=_validate,
        best_arguments={"model_type": "transformer"},
    )


def _split(seed: int) -> Split:
    train = split_items(_pairs("train"), seed, _CALIBRATION, 0, 0)
    dev = split_items(_pairs("dev"), seed, 0, _VALIDATION, _HELD_OUT)
    return Split(train.calibration, dev.validation, dev.held_out)


def _pairs(part: str) -> list[dict[str, Any]]:
    data = dict(np.load(zoo(f"stsb/{part}.npz")))
    return [
        {side: _sentence(data[f"ids_{side}"][i], data[f"mask_{side}"][i]) for side in "ab"}
        | {"score": float(data["score"][i])}
        for i in range(len(data["score"]))
    ]


def _sentence(ids: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    length = int(mask.sum())
    return {
        "input_ids": ids[None, :length].astype(np.int64),
        "attention_mask": mask[None, :length].astype(np.int64),
    }


def _validate(compiled: ov.CompiledModel, items: Iterable[Any]) -> tuple[float, list[float]]:
    similarities, scores = [], []
    for pair in items:
        a, b = (compiled(pair[side])[0].ravel() for side in "ab")
        similarities.append(float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)))
        scores.append(pair["score"])
    # a correlation has no values per item; the closest are squared distances on the scale of the scores
    values = [-((s - score / 5) ** 2) for s, score in zip(similarities, scores, strict=True)]
    if len(set(similarities)) < 2 or len(set(scores)) < 2:
        return 0.0, values
    return float(spearmanr(similarities, scores).statistic), values
