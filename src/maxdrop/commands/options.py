"""Options that several commands share, with the names and meanings that they have in Python."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from maxdrop.errors import ValidationError
from maxdrop.options import ModelType, QuantizationPreset, TargetDevice
from maxdrop.scopes import IgnoredScope


class PlacementName(str, Enum):
    """The ways to choose ops (`maxdrop.data.spec.Placement`), as typer takes them."""

    MEASURED = "measured"
    TABLE = "table"
    ALL = "all"


Model = Annotated[Path, typer.Argument(help="Float model, .xml or .onnx.", metavar="MODEL", show_default=False)]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="Calibration samples: an .npy or .npz file, a folder of them (first axis: samples; .npz keys: input "
        "names), or pkg.mod:name of a Dataset, a list, or a function that returns one.",
        metavar="D",
        show_default=False,
    ),
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Samples to an inference, for array files.")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Folder.", show_default=False)]
ModelOutput = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="OUT", help="Folder, or a path that ends in .xml.", show_default=False),
]
Preset = Annotated[
    QuantizationPreset | None,
    typer.Option("--preset", help="Symmetric or asymmetric activations; chosen by tensor when left out."),
]
Target = Annotated[TargetDevice, typer.Option("--target-device", help="What the model will run on.")]
SubsetSize = Annotated[int, typer.Option("--subset-size", help="Most batches to calibrate with.")]
Family = Annotated[ModelType | None, typer.Option("--model-type", help="Looked up in the model when left out.")]
IgnoredNames = Annotated[
    list[str] | None, typer.Option("--ignored-names", help="An op that stays float; may be repeated.")
]
IgnoredPatterns = Annotated[
    list[str] | None,
    typer.Option("--ignored-patterns", help="A regular expression for ops that stay float; may be repeated."),
]
IgnoredTypes = Annotated[
    list[str] | None, typer.Option("--ignored-types", help="A type of ops that stay float; may be repeated.")
]
PlacementOption = Annotated[
    PlacementName | None,
    typer.Option(
        "--placement",
        help="Quantize what becomes faster on this machine (measured), what usually does on the target (table), or "
        "all that can be; as in Python when left out.",
    ),
]
CompileConfig = Annotated[
    list[str] | None,
    typer.Option(
        "--compile-config",
        metavar="KEY=VALUE",
        help="What the model will be compiled with, such as INFERENCE_PRECISION_HINT=bf16; may be repeated.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@dataclass(frozen=True)
class QuantizationChoices:
    """The options that `quantize` and `control` have in common."""

    preset: QuantizationPreset | None
    target_device: TargetDevice
    subset_size: int
    model_type: ModelType | None
    ignored_names: list[str] | None
    ignored_patterns: list[str] | None
    ignored_types: list[str] | None
    placement: PlacementName | None

    def as_arguments(self) -> dict[str, Any]:
        """Keyword arguments of the Python functions."""
        scope = IgnoredScope(
            names=self.ignored_names or [], patterns=self.ignored_patterns or [], types=self.ignored_types or []
        )
        arguments: dict[str, Any] = {
            "preset": self.preset,
            "target_device": self.target_device,
            "subset_size": self.subset_size,
            "model_type": self.model_type,
            "ignored_scope": scope,
        }
        if self.placement is not None:
            arguments["placement"] = self.placement.value
        return arguments


def parse_config(pairs: list[str] | None) -> dict[str, str]:
    """KEY=VALUE pairs as a dict.

    Raises:
        ValidationError: a pair has no "=".
    """
    wrong = [pair for pair in pairs or () if "=" not in pair]
    if wrong:
        message = f"`--compile-config` must be KEY=VALUE, but got {wrong[0]!r}"
        raise ValidationError(message)
    return {pair.partition("=")[0]: pair.partition("=")[2] for pair in pairs or ()}


def model_path(model: Path, output: Path) -> Path:
    """Where a quantized model is written, with its folder made; never over the float model.

    Raises:
        ValidationError: the float model lies there.
    """
    path = output if output.suffix.lower() == ".xml" else output / "model.xml"
    if path.resolve() == model.resolve():
        message = f"`--output` must not overwrite the float model, but {path} is the model itself; give another path"
        raise ValidationError(message)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
