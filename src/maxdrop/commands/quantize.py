"""maxdrop quantize."""

from __future__ import annotations

import typer

from maxdrop.commands import options as opt
from maxdrop.commands.expand import expand


@expand
def quantize(
    model: opt.Model,
    data: opt.Data,
    output: opt.ModelOutput,
    quantization: opt.Quantization,
    batch_size: opt.BatchSize = 1,
    progress: opt.Progress = None,
) -> None:
    """Quantize MODEL to int8 with a few typical inputs; no labels, no metric."""
    import maxdrop as md
    from maxdrop.backends.registry import open_model
    from maxdrop.commands.data import note_conversions, open_dataset
    from maxdrop.inspection import inspect_model

    path = opt.model_path(model, output)
    arguments = quantization.as_arguments()
    dataset = open_dataset("--data", data, batch_size)
    target, config = quantization.target_device.value, arguments["compile_config"]
    backend, opened = open_model(model, target)
    note_conversions("--data", dataset, backend.graph(opened))
    quantized = md.quantize(opened, dataset, progress=progress, **arguments)
    path.parent.mkdir(parents=True, exist_ok=True)
    backend.save(quantized, path)
    found = inspect_model(quantized, target=target, compile_config=config)
    typer.echo(f"{path}: {found.executed_share:.1%} of the multiply-accumulates execute in int8 on this machine")
