"""maxdrop quantize."""

from __future__ import annotations

import typer

from maxdrop.commands import options as opt
from maxdrop.options import TargetDevice


def quantize(
    model: opt.Model,
    data: opt.Data,
    output: opt.ModelOutput,
    preset: opt.Preset = None,
    target_device: opt.Target = TargetDevice.ANY,
    subset_size: opt.SubsetSize = 300,
    model_type: opt.Family = None,
    ignored_names: opt.IgnoredNames = None,
    ignored_patterns: opt.IgnoredPatterns = None,
    ignored_types: opt.IgnoredTypes = None,
    placement: opt.PlacementOption = None,
    compile_config: opt.CompileConfig = None,
    batch_size: opt.BatchSize = 1,
) -> None:
    """Quantize MODEL to int8 with a few typical inputs; no labels, no metric."""
    import maxdrop as md
    from maxdrop.backends.registry import open_model
    from maxdrop.commands.data import open_dataset
    from maxdrop.inspection import inspect_model

    path = opt.model_path(model, output)
    choices = opt.QuantizationChoices(
        preset, target_device, subset_size, model_type, ignored_names, ignored_patterns, ignored_types, placement
    )
    config = opt.parse_config(compile_config)
    quantized = md.quantize(
        model, open_dataset("--data", data, batch_size), compile_config=config, **choices.as_arguments()
    )
    open_model(quantized, target_device.value)[0].save(quantized, path)
    found = inspect_model(quantized, target=target_device.value, compile_config=config)
    typer.echo(f"{path}: {found.executed_share:.1%} of the multiply-accumulates execute in int8 on this machine")
