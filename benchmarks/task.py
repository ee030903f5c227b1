"""What a benchmark task is: one model file, three disjoint sets of items, one validation function."""

import hashlib
import importlib
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

Validate = Callable[[ov.CompiledModel, Iterable[Any]], tuple[float, list[float]]]


@dataclass(frozen=True)
class Split:
    """Disjoint items: for calibration, for validation, and those that no tool ever sees."""

    calibration: Sequence[Any]
    validation: Sequence[Any]
    held_out: Sequence[Any]


@dataclass(frozen=True)
class Task:
    """One benchmark task.

    Attributes:
        name: What the command line calls it.
        metric: The metric in one phrase, for the tables.
        model: Returns the path of the float model file, building it when it is not in the cache.
        split: Maps a seed to items.
        transform: Maps an item to what the model is fed.
        validate: Scores a compiled model on items, higher is better; also one value per item.
        best_arguments: What an expert would pass to a quantization tool for this model.
        onnx: The same model as ONNX, for tools that read nothing else.
    """

    name: str
    metric: str
    model: Callable[[], Path]
    split: Callable[[int], Split]
    transform: Callable[[Any], Any]
    validate: Validate
    best_arguments: Mapping[str, Any] = field(default_factory=dict)
    onnx: Callable[[], Path] | None = None


# name -> "module:function"; a name with a trailing number calls the function with it
_TASKS = {
    "demo": "benchmarks.tasks.demo:task",
    "efflite0": "benchmarks.tasks.efflite0:task",
    "minilm": "benchmarks.tasks.minilm:task",
    "ocr-rec": "benchmarks.tasks.ocr:recogniser",
    "ocr-cls": "benchmarks.tasks.ocr:classifier",
    "ocr-det": "benchmarks.tasks.ocr:detector",
    "resnet50": "benchmarks.tasks.structural:resnet50",
    "mobilenetv2": "benchmarks.tasks.structural:mobilenetv2",
    "mobilenetv3": "benchmarks.tasks.structural:mobilenetv3",
    "vit-b": "benchmarks.tasks.structural:vit_b",
    "bert-base": "benchmarks.tasks.structural:bert_base",
    "swin-t": "benchmarks.tasks.structural:swin_t",
    "convnext-t": "benchmarks.tasks.structural:convnext_t",
    "yolos-t": "benchmarks.tasks.structural:yolos_t",
    "scale-ops": "benchmarks.tasks.synthetic:by_ops",
    "scale-mb": "benchmarks.tasks.synthetic:by_megabytes",
}


def task_names() -> list[str]:
    """The tasks of the table, `scale-*` being followed by a number, as in `scale-ops-200`."""
    return sorted(_TASKS)


def load_task(name: str) -> Task:
    """Finds a task in the table, or by `module:function`."""
    head, _, number = name.rpartition("-")
    arguments: tuple[int, ...] = ()
    if ":" in name:
        target = name
    elif name in _TASKS:
        target = _TASKS[name]
    elif head in _TASKS and number.isdigit():
        target, arguments = _TASKS[head], (int(number),)
    else:
        raise KeyError(f"the task must be `module:function` or one of {task_names()}, but got {name!r}")
    module, _, function = target.partition(":")
    task: Task = getattr(importlib.import_module(module), function)(*arguments)
    return replace(task, name=name)


def split_items(items: Sequence[Any], seed: int, calibration: int, validation: int, held_out: int) -> Split:
    """Shuffles items by the seed and cuts them in three."""
    if calibration + validation + held_out > len(items):
        raise ValueError(f"the parts must not exceed the {len(items)} items")
    order = np.random.default_rng(seed).permutation(len(items))
    picked = [items[i] for i in order[: calibration + validation + held_out]]
    first, second = calibration, calibration + validation
    return Split(picked[:first], picked[first:second], picked[second:])


def cache_folder() -> Path:
    """Where built models and run files go: `MAXDROP_BENCH_CACHE`, or a folder that git ignores."""
    folder = Path(os.environ.get("MAXDROP_BENCH_CACHE") or Path(__file__).parent / ".cache").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cached_model(name: str, build: Callable[[], ov.Model]) -> Path:
    """The path of a model in the cache; built and saved in float32 when it is not there."""
    target = cache_folder() / f"{name}.xml"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            draft = Path(folder) / target.name
            ov.save_model(build(), draft, compress_to_fp16=False)
            draft.with_suffix(".bin").replace(target.with_suffix(".bin"))
            draft.replace(target)  # last, so that an interrupted build is not taken for a model
    return target


def digest(value: Any) -> str:
    """A hash of nested items, so that both sides can be shown to have had the same."""
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()[:16]


def file_digest(*paths: Path) -> str:
    """A hash of files."""
    sha = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                sha.update(chunk)
    return sha.hexdigest()[:16]


def _feed(sha: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        sha.update(str((value.dtype, value.shape)).encode())
        sha.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value):
            sha.update(str(key).encode())
            _feed(sha, value[key])
    elif isinstance(value, Sequence) and not isinstance(value, str):
        sha.update(str(len(value)).encode())
        for element in value:
            _feed(sha, element)
    else:
        sha.update(repr(value).encode())
