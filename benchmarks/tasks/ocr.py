"""The three small networks of the Apache-2.0 package rapidocr-onnxruntime (PP-OCR), on rendered text.

Recogniser: LCNet and attention, dynamic width. Orientation classifier: a small MobileNetV3. Detector: LCNet
with squeeze-excite and hard-swish. The images are rendered: synthetic, with exact labels.
"""

from collections.abc import Iterable
from functools import lru_cache, partial
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from PIL import Image

from benchmarks.task import Split, Task, split_items
from benchmarks.tasks.rendered_text import Array, degrade, planes, random_text, text_image
from benchmarks.tasks.scoring import top1

_IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))
_SHRINK = 0.4  # the detector is trained to find text regions shrunk by this ratio


def recogniser() -> Task:
    """Share of lines read without an error."""
    file = "ch_PP-OCRv4_rec_infer.onnx"
    return _task("ocr-rec", "lines read exactly (rendered text)", file, _line, _read_exactly)


def classifier() -> Task:
    """Share of lines whose orientation, 0 or 180 degrees, is found."""
    file = "ch_ppocr_mobile_v2.0_cls_infer.onnx"
    return _task("ocr-cls", "orientation accuracy (rendered text)", file, _turned, top1)


def detector() -> Task:
    """Mean F1 over pixels of the text regions."""
    file = "ch_PP-OCRv4_det_infer.onnx"
    return _task("ocr-det", "mean pixel F1 (rendered text)", file, _page, _pixel_f1, (100, 200, 100))


def _task(
    name: str,
    metric: str,
    file: str,
    make: Any,
    validate: Any,
    counts: tuple[int, int, int] = (300, 600, 400),
) -> Task:
    path = partial(_model_path, file)
    split = partial(_split, make, counts)
    return Task(name, metric, path, split, lambda item: item[0], validate, onnx=path)


def _model_path(file: str) -> Path:
    package = find_spec("rapidocr_onnxruntime")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the OCR tasks need `pip install --no-deps rapidocr-onnxruntime==1.4.4`")
    return Path(package.origin).parent / "models" / file


def _split(make: Any, counts: tuple[int, int, int], seed: int) -> Split:
    random = np.random.default_rng(20260101)
    return split_items([make(random) for _ in range(sum(counts))], seed, *counts)


def _line(random: np.random.Generator) -> tuple[Array, str]:
    text = random_text(random)
    image = degrade(random, text_image(random, text), strength=0.4)
    width = max(48, round(image.width * 48 / image.height / 32) * 32)
    return planes(image.resize((width, 48), Image.Resampling.BILINEAR), 0.5, 0.5), text


def _turned(random: np.random.Generator) -> tuple[Array, int]:
    image = degrade(random, text_image(random, random_text(random, longest=10)), strength=0.8)
    label = int(random.integers(2))
    width = min(192, round(image.width * 48 / image.height))
    canvas = Image.new("L", (192, 48), 127)
    turned = image.rotate(180) if label else image
    canvas.paste(turned.resize((width, 48), Image.Resampling.BILINEAR))
    return planes(canvas, 0.5, 0.5), label


def _page(random: np.random.Generator) -> tuple[Array, Array]:
    page = Image.new("L", (320, 320), int(random.integers(90, 256)))
    mask = np.zeros((320, 320), bool)
    top = int(random.integers(4, 30))
    while top < 280:
        line = text_image(random, random_text(random), size=int(random.integers(14, 30)))
        left = int(random.integers(0, max(1, 320 - line.width)))
        if top + line.height > 320:
            break
        page.paste(line, (left, top))
        inset = round(line.width * line.height * (1 - _SHRINK**2) / (2 * (line.width + line.height)))
        mask[top + inset : top + line.height - inset, left + inset : left + line.width - inset] = True
        top += line.height + int(random.integers(6, 60))
    return planes(degrade(random, page, strength=0.5), *_IMAGENET), mask


def _read_exactly(compiled: ov.CompiledModel, items: Iterable[Any]) -> tuple[float, list[float]]:
    characters = _characters()
    values = []
    for pixels, text in items:
        steps = [key for key, _ in groupby(compiled(pixels)[0][0].argmax(axis=1).tolist())]
        values.append(float("".join(characters[step] for step in steps if step) == text))
    return float(np.mean(values)), values


def _pixel_f1(compiled: ov.CompiledModel, items: Iterable[Any]) -> tuple[float, list[float]]:
    values = []
    for pixels, mask in items:
        found = compiled(pixels)[0][0, 0] > 0.3
        values.append(2.0 * float(np.sum(found & mask)) / max(1.0, float(found.sum() + mask.sum())))
    return float(np.mean(values)), values


@lru_cache
def _characters() -> list[str]:
    """The recogniser's characters, from its own file; 0 is the blank of CTC, the last is the space."""
    import onnx

    model = onnx.load(_model_path("ch_PP-OCRv4_rec_infer.onnx"))
    listed = {entry.key: entry.value for entry in model.metadata_props}["character"]
    return ["", *listed.splitlines(), " "]
