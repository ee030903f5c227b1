"""The model and data of `maxdrop demo`: a small network that reads handwritten digits and that int8 hurts.

`tools/train_demo_model.py` made them and says how: 1797 8x8 images from scikit-learn, with noise and random
contrast. 700 of them trained the network and 300 of those are here for calibration; the other 1097, which it
never saw, are here with labels for validation.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from maxdrop.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import openvino as ov

Image = npt.NDArray[np.float32]

_REPEAT = 6

__all__ = ["calibration_items", "load_model", "validate", "validation_items"]


def load_model() -> ov.Model:
    """Read the float model.

    Returns:
        A model with one input `image`, float32 of shape [1, 1, 48, 48] with values from 0 to 1, and one
        output `logits`, float32 of shape [1, 10]. Every call returns a new model.
    """
    import openvino as ov

    folder = files(__name__)
    model = folder.joinpath("model.xml").read_bytes()
    return ov.Core().read_model(model, folder.joinpath("model.bin").read_bytes())


def calibration_items() -> list[Image]:
    """Read the images for calibration.

    Returns:
        300 inputs of the model, each float32 of shape [1, 1, 48, 48].
    """
    return [_prepare(image) for image in _read("calibration_images")]


def validation_items() -> list[tuple[Image, int]]:
    """Read the images for validation, none of which was used to train the model.

    Returns:
        1097 pairs of an input of the model, float32 of shape [1, 1, 48, 48], and its label, 0 to 9.
    """
    images, labels = _read("validation_images"), _read("validation_labels")
    return [(_prepare(image), int(label)) for image, label in zip(images, labels, strict=True)]


def validate(compiled_model: ov.CompiledModel, items: Iterable[tuple[Image, int]]) -> tuple[float, list[float]]:
    """Score a compiled model, one image at a time.

    Args:
        compiled_model: the model of `load_model`, or one made from it, compiled for any device.
        items: pairs of an input of the model and its label, as `validation_items` returns them.

    Returns:
        The top-1 accuracy, and for every item 1.0 if it was right and 0.0 if not; the accuracy is their mean.

    Raises:
        ValidationError: there are no items.
    """
    request = compiled_model.create_infer_request()
    right = [float(int(request.infer([image])[0].argmax()) == label) for image, label in items]
    if not right:
        message = "`items` must hold at least one pair of an image and a label, but got none"
        raise ValidationError(message)
    return sum(right) / len(right), right


def _read(name: str) -> npt.NDArray[np.uint8]:
    archive = files(__name__).joinpath("digits.npz")
    with archive.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        values: npt.NDArray[np.uint8] = arrays[name]
        return values


def _prepare(image: npt.NDArray[np.uint8]) -> Image:
    """Scale the pixels of an 8x8 image to 0..1 and repeat each of them 6 times in both directions."""
    pixels = image.astype(np.float32) / 255
    enlarged: npt.NDArray[Any] = np.kron(pixels, np.ones((_REPEAT, _REPEAT), np.float32))
    return enlarged[None, None].astype(np.float32)
