"""EfficientNet-Lite0 on 600 ImageNet images, one per class: top-1 accuracy."""

import csv
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.task import Split, Task
from benchmarks.tasks.scoring import top1
from benchmarks.tasks.zoo_folder import zoo

_SIDE = 224
_CALIBRATION, _VALIDATION, _HELD_OUT = 75, 410, 115  # images; calibration takes four crops of each
_CORNERS = ((0, 0), (0, 32), (32, 0), (32, 32))


def task() -> Task:
    """Calibration: 75 images x 4 corner crops. Validation: 410 images. Held out: 115 images."""
    return Task(
        name="efflite0",
        metric="top-1 accuracy",
        model=lambda: zoo("efflite0.onnx"),
        split=_split,
        transform=lambda item: item[0],
        validate=top1,
        onnx=lambda: zoo("efflite0.onnx"),
    )


def _split(seed: int) -> Split:
    with zoo("imagenet/labels.csv").open() as stream:
        rows = [(row["file"], int(row["class_index"])) for row in csv.DictReader(stream)]
    order = np.random.default_rng(seed).permutation(len(rows))[: _CALIBRATION + _VALIDATION + _HELD_OUT]
    calibration = [(_crop(rows[i][0], *corner), rows[i][1]) for i in order[:_CALIBRATION] for corner in _CORNERS]
    scored = [(_crop(rows[i][0], 16, 16), rows[i][1]) for i in order[_CALIBRATION:]]
    return Split(calibration, scored[:_VALIDATION], scored[_VALIDATION:])


def _crop(file: str, top: int, left: int) -> np.ndarray[Any, Any]:
    image = np.asarray(Image.open(zoo("imagenet") / file).convert("RGB"), np.float32)
    image = image[top : top + _SIDE, left : left + _SIDE]
    return np.ascontiguousarray(((image - 127) / 128).transpose(2, 0, 1)[None])
