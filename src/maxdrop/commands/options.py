"""Options that several commands share, with the names and meanings that they have in Python."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from maxdrop.errors import ValidationError
from maxdrop.folders import check_folder
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
Target = Annotated[TargetDevice, typer.Option("--target-device", help="What the model will run on.")]
CompileConfig = Annotated[
    list[str] | None,
    typer.Option(
        "--compile-config",
        metavar="KEY=VALUE",
        help="What the model will be compiled with, such as INFERENCE_PRECISION_HINT=bf16; may be repeated.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


Progress = Annotated[
    bool | None,
    typer.Option("--progress/--no-progress", help="Show progress; without either, only on a terminal."),
]


@dataclass(frozen=True)
class Quantization:
    """The options of quantization, for every command that quantizes."""

    panel: ClassVar[str] = "Quantization"

    preset: Annotated[
        QuantizationPreset | None,
        typer.Option(help="Symmetric or asymmetric activations; chosen by tensor when left out."),
    ] = None
    target_device: Target = TargetDevice.ANY
    subset_size: Annotated[int, typer.Option(help="Most batches to calibrate with.")] = 300
    no_fast_bias_correction: Annotated[
        bool, typer.Option("--no-fast-bias-correction", help="As fast_bias_correction=False in Python.")
    ] = False
    model_type: Annotated[ModelType | None, typer.Option(help="Looked up in the model when left out.")] = None
    ignored_names: Annotated[list[str] | None, typer.Option(help="An op that stays float; may be repeated.")] = None
    ignored_patterns: Annotated[
        list[str] | None, typer.Option(help="A regular expression for ops that stay float; may be repeated.")
    ] = None
    ignored_types: Annotated[list[str] | None, typer.Option(help="A type of ops that stay float; may be repeated.")] = (
        None
    )
    placement: Annotated[
        PlacementName | None,
        typer.Option(
            help="Quantize what becomes faster on this machine (measured), what usually does on the target (table), "
            "or all that can be; as in Python when left out."
        ),
    ] = None
    compile_config: CompileConfig = None

    def as_arguments(self) -> dict[str, Any]:
        """Keyword arguments of the Python functions; what the user left out is left to them."""
        scope = IgnoredScope(
            names=self.ignored_names or [], patterns=self.ignored_patterns or [], types=self.ignored_types or []
        )
        placed = {} if self.placement is None else {"placement": self.placement.value}
        return {
            "preset": self.preset,
            "target_device": self.target_device,
            "subset_size": self.subset_size,
            "fast_bias_correction": not self.no_fast_bias_correction,
            "model_type": self.model_type,
            "ignored_scope": scope,
            "compile_config": parse_config(self.compile_config),
            **placed,
        }


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
    """Where a quantized model is to be written; nothing is made there yet.

    Raises:
        ValidationError: the float model lies there, or something that is no folder is in the way.
    """
    path = output if output.suffix.lower() == ".xml" else output / "model.xml"
    if path.resolve() == model.resolve():
        message = f"`--output` must not overwrite the float model, but {path} is the model itself; give another path"
        raise ValidationError(message)
    if path.is_dir():
        message = f"`--output` must be a folder or the path of a file, but the folder {path} has the name of a model"
        raise ValidationError(message)
    check_folder("--output", path.parent)
    return path


def output_folder(model: Path, output: Path) -> None:
    """Check the folder of a search; nothing is made there yet.

    Raises:
        ValidationError: it would overwrite the float model, or something that is no folder is in the way.
    """
    if (output / "model.xml").resolve() == model.resolve():
        message = f"`--output` must not overwrite the float model, but {model} lies in {output}; give another folder"
        raise ValidationError(message)
    check_folder("--output", output)
