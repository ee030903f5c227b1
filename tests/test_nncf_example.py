"""The documentation example of "quantization with accuracy control", with the names of NNCF."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

import maxdrop as nncf
from maxdrop import demo

Batch = tuple[Any, Any]


class PlainLoader:
    """Batches of images and labels, as a DataLoader gives them."""

    def __init__(self, items: list[tuple[Any, int]]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Batch]:
        return ((image, np.array([label])) for image, label in self._items)


def torch_loader(items: list[tuple[Any, int]]) -> Iterable[Batch]:
    torch = pytest.importorskip("torch")
    images = torch.from_numpy(np.concatenate([image for image, _ in items]))
    labels = torch.tensor([label for _, label in items])
    loader: Iterable[Batch] = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=1)
    return loader


@pytest.mark.filterwarnings("ignore:no 8-bit model that pays", "ignore:nothing in this model is worth int8")
@pytest.mark.parametrize("make_loader", [PlainLoader, torch_loader])
def test_documentation_example(make_loader: Any, tmp_path: Path) -> None:
    model = demo.load_model()
    items = demo.validation_items()[:200]
    calibration_loader = make_loader(items[:30])
    validation_loader = make_loader(items)

    def transform_fn(data_item: Batch) -> Any:
        images, _ = data_item
        return images

    calibration_dataset = nncf.Dataset(calibration_loader, transform_fn)
    validation_dataset = nncf.Dataset(validation_loader, transform_fn)

    def validate(compiled_model: ov.CompiledModel, validation_loader: Iterable[Batch]) -> float:
        predictions = []
        references = []
        output = compiled_model.outputs[0]
        for images, target in validation_loader:
            predictions.append(np.argmax(compiled_model(images)[output], axis=1))
            references.append(np.asarray(target))
        return float(np.mean(np.concatenate(predictions) == np.concatenate(references)))

    quantized_model = nncf.quantize_with_accuracy_control(
        model,
        calibration_dataset=calibration_dataset,
        validation_dataset=validation_dataset,
        validation_fn=validate,
        max_drop=0.01,
        drop_type=nncf.DropType.ABSOLUTE,
    )

    compiled = ov.compile_model(quantized_model)
    assert compiled(items[0][0])[0].shape == (1, 10)
    ov.save_model(quantized_model, tmp_path / "quantized_model.xml")
    saved = ov.compile_model(tmp_path / "quantized_model.xml")
    floating = validate(ov.compile_model(model), validation_loader)
    assert floating - validate(saved, validation_loader) <= 0.01
    assert quantized_model is not model
