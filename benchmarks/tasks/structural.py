"""Public architectures with fixed random weights: for cost against structure, not for accuracy.

Built from the configurations of the `transformers` package, or here where it has none; nothing is downloaded.
The metric is 1 - NMSE against the output of the float model.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from benchmarks.task import Split, Task, cached_model, split_items
from benchmarks.tasks.scoring import Array, fidelity

_COUNTS = (300, 60, 40)
_METRIC = "1 - NMSE to the float output (random weights)"
Make = Callable[[Any], Any]  # from the module `transformers` to a torch module

_TRANSFORMER = {"model_type": "transformer"}


def resnet50() -> Task:
    """ResNet-50."""
    return _image_task("resnet50", lambda t: t.ResNetForImageClassification(t.ResNetConfig(num_labels=1000)))


def mobilenetv2() -> Task:
    """MobileNetV2."""
    return _image_task(
        "mobilenetv2", lambda t: t.MobileNetV2ForImageClassification(t.MobileNetV2Config(num_labels=1000))
    )


def mobilenetv3() -> Task:
    """MobileNetV3-Large."""
    from benchmarks.tasks.mobilenet_v3 import mobilenet_v3_large

    return _image_task("mobilenetv3", lambda _: mobilenet_v3_large())


def vit_b() -> Task:
    """ViT-B/16."""
    return _image_task("vit-b", lambda t: t.ViTForImageClassification(t.ViTConfig(num_labels=1000)), best=_TRANSFORMER)


def swin_t() -> Task:
    """Swin-T."""
    return _image_task(
        "swin-t", lambda t: t.SwinForImageClassification(t.SwinConfig(num_labels=1000)), best=_TRANSFORMER
    )


def convnext_t() -> Task:
    """ConvNeXt-T."""
    return _image_task("convnext-t", lambda t: t.ConvNextForImageClassification(t.ConvNextConfig(num_labels=1000)))


def yolos_t() -> Task:
    """YOLOS-Tiny, a detector; the metric looks at the class logits of its boxes."""
    small = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768, "image_size": [256, 256]}
    make: Make = lambda t: t.YolosForObjectDetection(t.YolosConfig(**small))  # noqa: E731
    return _image_task("yolos-t", make, side=256, best=_TRANSFORMER)


def bert_base() -> Task:
    """BERT-base on 128 random tokens."""
    return _task("bert-base", lambda t: t.BertModel(t.BertConfig()), _tokens, _TRANSFORMER)


def _image_task(name: str, make: Make, side: int = 224, best: dict[str, str] | None = None) -> Task:
    return _task(name, make, partial(_images, side), best or {})


def _task(name: str, make: Make, inputs: Callable[[], Sequence[Array]], best: dict[str, str]) -> Task:
    def model() -> Path:
        return cached_model(name, lambda: _convert(make, inputs()[0]))

    return Task(name, _METRIC, model, partial(_split, model, inputs), lambda item: item[0], fidelity(), best)


def _split(model: Callable[[], Path], inputs: Callable[[], Sequence[Array]], seed: int) -> Split:
    path = model()
    stored = path.with_suffix(f".outputs{sum(_COUNTS)}.npz")
    if not stored.exists():
        compiled = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        np.savez(stored, outputs=np.stack([compiled(x)[0] for x in inputs()]))
    expected = np.load(stored)["outputs"]
    return split_items(list(zip(inputs(), expected, strict=True)), seed, *_COUNTS)


@lru_cache
def _tokens() -> Sequence[Array]:
    random = np.random.default_rng(0)
    return [random.integers(1000, 30000, (1, 128)).astype(np.int64) for _ in range(sum(_COUNTS))]


@lru_cache
def _images(side: int) -> Sequence[Array]:
    return [_image(seed, side) for seed in range(sum(_COUNTS))]


def _image(seed: int, side: int) -> Array:
    """Noise with the falling spectrum of a photograph, one spread per channel."""
    random = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    falling = 1 / np.maximum(np.hypot(rows, columns), 1 / side)
    noise = np.fft.rfft2(random.standard_normal((3, side, side))) * falling
    image = np.fft.irfft2(noise, (side, side))
    image = (image / image.std(axis=(1, 2), keepdims=True))[None]
    return np.asarray(image, np.float32)


def _convert(make: Make, sample: Array) -> ov.Model:
    import torch
    import transformers

    torch.manual_seed(0)
    module = make(transformers)
    _move_vectors(torch, module)
    _settle_batch_norms(torch, module, sample.shape)
    example = torch.from_numpy(sample)
    model = ov.convert_model(_first_tensor(torch, module.eval()), example_input=example)
    model.reshape(list(sample.shape))
    return model


def _move_vectors(torch: Any, module: Any) -> None:
    """Moves biases, and what normalisations multiply by, from their first values of 0 and 1.

    Training does so, and without it these ops are folded away: the network would have another structure.
    """
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))


def _settle_batch_norms(torch: Any, module: Any, shape: tuple[int, ...]) -> None:
    """Gives batch normalisations the statistics of some inputs; without, depth blows the values up."""
    if not any(isinstance(part, torch.nn.BatchNorm2d) for part in module.modules()):
        return
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None  # plain means, so that few batches do
    module.train()
    with torch.no_grad():
        for first in range(10_000, 10_032, 8):
            images = [_image(seed, shape[-1]) for seed in range(first, first + 8)]
            module(torch.from_numpy(np.concatenate(images)))


def _first_tensor(torch: Any, module: Any) -> Any:
    """The module with its first output as a plain tensor, in place of a named output."""

    class FirstTensor(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Any) -> Any:
            output = self.module(x)
            return output[0] if isinstance(output, dict) else output

    return FirstTensor()
