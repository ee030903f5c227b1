"""Train the model of `maxdrop demo` and write it, with its data, into the package.

One command, a fixed seed, about 5 minutes on two idle cores. torch and scikit-learn are needed here and
nowhere else, so give it an environment of its own::

    pip install torch==2.13.0 scikit-learn openvino==2026.4.1
    python tools/train_demo_model.py

It writes `model.xml`, `model.bin` and `digits.npz` to `src/maxdrop/demo/` and prints the accuracy of the
float model on the validation images: 0.948 in f32.

Data: the 1797 handwritten digits of 8x8 pixels that come with scikit-learn (`load_digits`), shuffled
once. They are too easy for a network, so every image gets a random contrast and pixel noise, once, and is
stored like that. 700 are for training (always augmented anew) and 300 of these are stored for
calibration. The other 1097 are stored, with labels, for validation; the network never saw them, and no
epoch was picked by looking at them.

Model: inverted residual blocks with linear bottlenecks (three with a dense 3x3 convolution, three with a
depthwise one and squeeze-excite), swish everywhere. The pixels of an image are repeated to make it
larger; the first phase of the training runs on 24x24, the second on the 48x48 pixels of the exported
model.

What makes it hard to quantize: trained like this, the network loses nothing in int8, so two difficulties
of real networks are planted in the residual stream that blocks 3 to 5 write. The channels of the stream
are multiplied by a matrix, and the weights of the three convolutions that read it by its inverse
(`plant_difficulty`), so nothing changes in float but rounding.

- The channels differ in range by a factor of `SPREAD`, and one scale for the whole tensor cannot serve
  them all (Nagel et al., "Data-Free Quantization", arXiv 1906.04721). SmoothQuant takes this away.
- The channels are mixed by two rotations with gains in between that differ by a factor of `CONDITION`:
  much of what they hold is common to many of them, and the readers subtract it again with large weights.
  What matters is a small difference of large numbers. No scaling of the channels takes that away.

In int8 these three convolutions, together, do the harm; the others do none. `CONDITION` is the one number
that was chosen by looking at the validation images: large enough that plain int8 loses several times the
limit that the demo sets.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov
import torch
from openvino import opset13 as op
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

Array = npt.NDArray[np.float64]
Layers = dict[str, tuple[Array, Array]]

SEED = 0
TRAINING, CALIBRATION = 700, 300
NOISE = 40.0
CONTRAST = (0.5, 1.0)
BATCH = 50
PHASES = ((3, 60, 4e-3), (6, 14, 2e-3))
"""(pixels per pixel, epochs, highest learning rate); the last one is the resolution of the exported model."""
STEM, HEAD, CLASSES, SQUEEZED = 32, 128, 10, 12
BLOCKS = (
    ("dense", 96, 32, 1),
    ("dense", 96, 32, 1),
    ("dense", 96, 64, 1),
    ("depthwise", 160, 64, 1),
    ("depthwise", 160, 64, 1),
    ("depthwise", 160, 96, 2),
)
"""(kind, expanded channels, output channels, stride)."""
SPREAD, CONDITION = 20.0, 350.0
SPREAD_WRITERS = ("block3/project", "block4/project", "block5/project")
SPREAD_READERS = ("block4/expand", "block5/expand", "block6/expand")


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalization and, if wanted, swish."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, swish: bool = True):
        """Make the layers."""
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.swish = swish

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the filtered and normalized input."""
        x = self.norm(self.conv(x))
        return functional.silu(x) if self.swish else x


class SqueezeExcite(nn.Module):
    """Scale every channel by a gate computed from the means of all channels."""

    def __init__(self, channels: int):
        """Make the layers."""
        super().__init__()
        self.squeeze = nn.Conv2d(channels, SQUEEZED, 1)
        self.excite = nn.Conv2d(SQUEEZED, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` times its gates."""
        means = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.excite(functional.silu(self.squeeze(means))))


class Block(nn.Module):
    """Inverted residual block: expand, filter, project without activation, add the input if shapes allow."""

    def __init__(self, kind: str, inputs: int, expanded: int, outputs: int, stride: int):
        """Make the layers."""
        super().__init__()
        self.residual = inputs == outputs and stride == 1
        self.depthwise: ConvNorm | None = None
        self.gate: SqueezeExcite | None = None
        if kind == "dense":
            self.expand = ConvNorm(inputs, expanded, 3, stride)
        else:
            self.expand = ConvNorm(inputs, expanded, 1)
            self.depthwise = ConvNorm(expanded, expanded, 3, stride, groups=expanded)
            self.gate = SqueezeExcite(expanded)
        self.project = ConvNorm(expanded, outputs, 1, swish=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the block."""
        y: torch.Tensor = self.expand(x)
        if self.depthwise is not None and self.gate is not None:
            y = self.gate(self.depthwise(y))
        y = self.project(y)
        return x + y if self.residual else y


class Network(nn.Module):
    """The whole classifier, on images of any size."""

    def __init__(self) -> None:
        """Make the layers."""
        super().__init__()
        self.stem = ConvNorm(1, STEM, 3, 2)
        widths = [STEM, *(outputs for _, _, outputs, _ in BLOCKS)]
        self.blocks = nn.ModuleList(
            Block(kind, inputs, expanded, outputs, stride)
            for inputs, (kind, expanded, outputs, stride) in zip(widths, BLOCKS, strict=False)
        )
        self.head = ConvNorm(widths[-1], HEAD, 1)
        self.classifier = nn.Linear(HEAD, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        features = functional.dropout(self.head(x).mean((2, 3)), 0.2, self.training)
        logits: torch.Tensor = self.classifier(features)
        return logits


def make_data() -> tuple[npt.NDArray[np.uint8], Array, npt.NDArray[np.int64]]:
    """Return the degraded images, the clean ones (0 to 255) and the labels, all in the same random order."""
    rng = np.random.default_rng(SEED)
    digits = load_digits()
    order = rng.permutation(len(digits.images))
    clean = digits.images[order] * (255 / 16)
    contrast = rng.uniform(*CONTRAST, (len(clean), 1, 1))
    degraded = np.clip(np.rint(clean * contrast + rng.normal(0, NOISE, clean.shape)), 0, 255).astype(np.uint8)
    return degraded, clean, digits.target[order].astype(np.int64)


def prepare(images: torch.Tensor, repeat: int) -> torch.Tensor:
    """Scale pixels to 0..1 and repeat each of them `repeat` times in both directions."""
    return functional.interpolate(images[:, None].float() / 255, scale_factor=repeat, mode="nearest")


def augment(images: torch.Tensor) -> torch.Tensor:
    """Return clean images turned, sized and moved a little, with new contrast and new noise."""
    count = len(images)
    images = images * torch.empty(count, 1, 1).uniform_(*CONTRAST)
    angle, size = (torch.rand(count) - 0.5) * 0.5, 1 + (torch.rand(count) - 0.5) * 0.3
    rows = [
        torch.stack([size * angle.cos(), -angle.sin(), (torch.rand(count) - 0.5) * 0.3], 1),
        torch.stack([angle.sin(), size * angle.cos(), (torch.rand(count) - 0.5) * 0.3], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), [count, 1, 8, 8], align_corners=False)
    images = functional.grid_sample(images[:, None], grid, align_corners=False)[:, 0]
    return (images + torch.randn_like(images) * NOISE).clamp(0, 255).round()


def train(clean: Array, labels: npt.NDArray[np.int64]) -> Network:
    """Train on the given images only, with the fixed seed."""
    torch.manual_seed(SEED)
    images, targets = torch.as_tensor(clean, dtype=torch.float32), torch.as_tensor(labels)
    network, start = Network(), time.perf_counter()
    steps = len(images) // BATCH
    for repeat, epochs, rate in PHASES:
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps)
        for epoch in range(epochs):
            network.train()
            losses = []
            for batch in torch.randperm(len(images))[: steps * BATCH].reshape(steps, BATCH):
                logits = network(prepare(augment(images[batch]), repeat))
                loss = functional.cross_entropy(logits, targets[batch], label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
            if epoch % 5 == 4 or epoch == epochs - 1:
                progress = f"x{repeat} epoch {epoch + 1}: training loss {np.mean(losses):.3f}"
                print(f"{progress}, {time.perf_counter() - start:.0f} s", flush=True)
    return network.eval()


def fold(layer: ConvNorm) -> tuple[Array, Array]:
    """Return weights and bias of a convolution with its batch normalization folded in."""
    norm = layer.norm
    assert norm.running_var is not None
    assert norm.running_mean is not None
    gain = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().double()
    weight = layer.conv.weight.detach().double() * gain[:, None, None, None]
    return weight.numpy(), (norm.bias.detach().double() - norm.running_mean.double() * gain).numpy()


def plain(layer: nn.Conv2d | nn.Linear) -> tuple[Array, Array]:
    """Return weights and bias of a layer without normalization."""
    assert layer.bias is not None
    return layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()


def layers_of(network: Network) -> Layers:
    """Return (weights, bias) of every layer by the name it will have in the exported model."""
    layers = {"stem/conv": fold(network.stem)}
    for number, block in enumerate(network.blocks, 1):
        assert isinstance(block, Block)
        layers[f"block{number}/expand"] = fold(block.expand)
        if block.depthwise is not None and block.gate is not None:
            layers[f"block{number}/depthwise"] = fold(block.depthwise)
            layers[f"block{number}/squeeze"] = plain(block.gate.squeeze)
            layers[f"block{number}/excite"] = plain(block.gate.excite)
        layers[f"block{number}/project"] = fold(block.project)
    return layers | {"head/conv": fold(network.head), "classifier": plain(network.classifier)}


def plant_difficulty(layers: Layers) -> Layers:
    """Return layers that compute the same function through a stream that is hard to quantize (see above)."""
    rng = np.random.default_rng(SEED + 1)
    channels = layers[SPREAD_WRITERS[0]][0].shape[0]
    gains = rng.permutation(_gains(SPREAD, channels))
    first, second = (np.linalg.qr(rng.normal(size=(channels, channels)))[0] for _ in range(2))
    mixing = gains[:, None] * (first * _gains(CONDITION, channels) @ second)
    inverse = np.linalg.inv(mixing)
    planted = dict(layers)
    for name in SPREAD_WRITERS:
        weight, bias = layers[name]
        planted[name] = (np.einsum("ij,jckl->ickl", mixing, weight), mixing @ bias)
    for name in SPREAD_READERS:
        weight, bias = layers[name]
        planted[name] = (np.einsum("oikl,ij->ojkl", weight, inverse), bias)
    return planted


def _gains(ratio: float, count: int) -> Array:
    """Return gains around 1 whose largest is `ratio` times the smallest."""
    half = np.log(ratio) / 2
    return np.exp(np.linspace(-half, half, count))


class Exporter:
    """Builds the OpenVINO model, with names that read well in a report."""

    def __init__(self, layers: Layers):
        """Take (weights, bias) by layer name."""
        self._layers = layers

    def model(self, size: int) -> ov.Model:
        """Return the model for one image of `size` x `size` pixels."""
        image = op.parameter([1, 1, size, size], np.float32, name="image")
        image.output(0).set_names({"image"})
        x, channels = self._conv(image, "stem/conv", stride=2), STEM
        for number, (kind, _, outputs, stride) in enumerate(BLOCKS, 1):
            y = self._block(x, f"block{number}", kind, stride)
            residual = channels == outputs and stride == 1
            x, channels = (op.add(x, y, name=f"block{number}/residual") if residual else y), outputs
        x = self._pool(self._conv(x, "head/conv"), "head/pool", keep_dims=False)
        weight, bias = self._layers["classifier"]
        x = op.matmul(x, self._constant(weight, "classifier/weight"), False, True, name="classifier")
        x = op.add(x, self._constant(bias[None], "classifier/bias/value"), name="classifier/bias")
        x.output(0).set_names({"logits"})
        return ov.Model([op.result(x, name="logits")], [image], "digits")

    def _block(self, x: ov.Node, name: str, kind: str, stride: int) -> ov.Node:
        if kind == "dense":
            return self._conv(self._conv(x, f"{name}/expand", stride), f"{name}/project", swish=False)
        y = self._conv(self._conv(x, f"{name}/expand"), f"{name}/depthwise", stride, depthwise=True)
        gate = self._conv(self._pool(y, f"{name}/squeeze_pool"), f"{name}/squeeze")
        gate = op.sigmoid(self._conv(gate, f"{name}/excite", swish=False), name=f"{name}/gate")
        return self._conv(op.multiply(y, gate, name=f"{name}/scale"), f"{name}/project", swish=False)

    def _conv(self, x: ov.Node, name: str, stride: int = 1, swish: bool = True, depthwise: bool = False) -> ov.Node:
        weight, bias = self._layers[name]
        make = op.group_convolution if depthwise else op.convolution
        values = self._constant(weight[:, None] if depthwise else weight, f"{name}/weight")
        padding = [weight.shape[-1] // 2] * 2
        x = make(x, values, [stride, stride], padding, padding, [1, 1], name=name)
        x = op.add(x, self._constant(bias[None, :, None, None], f"{name}/bias/value"), name=f"{name}/bias")
        return op.swish(x, name=f"{name}/swish") if swish else x

    def _pool(self, x: ov.Node, name: str, keep_dims: bool = True) -> ov.Node:
        axes = op.constant(np.array([2, 3]), name=f"{name}/axes")
        return op.reduce_mean(x, axes, keep_dims=keep_dims, name=name)

    def _constant(self, values: Array, name: str) -> ov.Node:
        return op.constant(values.astype(np.float32), name=name)


def accuracy(model: ov.Model, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], precision: str) -> float:
    """Return the share of images that the compiled model gets right."""
    repeat = PHASES[-1][0]
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    request = compiled.create_infer_request()
    right = [
        int(request.infer([prepare(torch.as_tensor(image)[None], repeat).numpy()])[0].argmax()) == label
        for image, label in zip(images, labels, strict=True)
    ]
    return float(np.mean(right))


def export(network: Network, folder: Path, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> None:
    """Write the model and the data, and print what the exported model scores."""
    folder.mkdir(parents=True, exist_ok=True)
    model = Exporter(plant_difficulty(layers_of(network))).model(size=8 * PHASES[-1][0])
    ov.save_model(model, folder / "model.xml", compress_to_fp16=True)
    np.savez_compressed(
        folder / "digits.npz",
        calibration_images=images[:CALIBRATION],
        validation_images=images[TRAINING:],
        validation_labels=labels[TRAINING:].astype(np.uint8),
    )
    saved = ov.Core().read_model(folder / "model.xml")
    for precision in ("f32", "bf16"):
        score = accuracy(saved, images[TRAINING:], labels[TRAINING:], precision)
        print(f"accuracy in {precision}: {score:.4f}")


def main() -> None:
    """Train and export."""
    parser = argparse.ArgumentParser(description="Train the model of `maxdrop demo`.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "src" / "maxdrop" / "demo")
    parser.add_argument("--threads", type=int, default=2, help="the last digits of the weights depend on it")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    degraded, clean, labels = make_data()
    export(train(clean[:TRAINING], labels[:TRAINING]), arguments.output, degraded, labels)


if __name__ == "__main__":
    main()
