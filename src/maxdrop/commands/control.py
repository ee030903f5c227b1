"""maxdrop control."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from maxdrop.commands import options as opt
from maxdrop.options import DropType, TargetDevice

NOT_REACHED = 3
"""Exit code when nothing but the float model is within the limit."""

_METRICS = ("accuracy",)


def control(
    model: opt.Model,
    data: opt.Data,
    output: opt.Output,
    validation_data: Annotated[
        str,
        typer.Option("--validation-data", metavar="V", help="Items to validate with; as --data.", show_default=False),
    ],
    validate: Annotated[
        str | None,
        typer.Option(metavar="PKG.MOD:FN", help="validate(compiled_model, items) -> metric, or (metric, per item)."),
    ] = None,
    metric: Annotated[str | None, typer.Option(help="A metric by name instead of --validate: accuracy.")] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="L.npy", help="One integer to a validation sample, for --metric accuracy.")
    ] = None,
    max_drop: Annotated[float, typer.Option(help="Largest allowed drop of the metric.")] = 0.01,
    drop_type: Annotated[DropType, typer.Option(help="Units of the metric, or share of the float metric.")] = (
        DropType.ABSOLUTE
    ),
    lower_is_better: Annotated[bool, typer.Option("--lower-is-better", help="The metric is an error.")] = False,
    min_metric: Annotated[float | None, typer.Option(help="What the metric must also reach.")] = None,
    confidence: Annotated[
        float | None, typer.Option(help="Limit the upper end of the drop's interval at this probability, such as 0.95.")
    ] = None,
    holdout: Annotated[float, typer.Option(help="Share of the validation data to confirm the result on.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of everything that is sampled.")] = 0,
    compile_config: opt.CompileConfig = None,
    max_validations: Annotated[
        int | None, typer.Option(min=1, help="Most passes over the validation data; as in Python when left out.")
    ] = None,
    time_budget: Annotated[float | None, typer.Option(help="Seconds after which no candidate is started.")] = None,
    max_iterations: Annotated[int | None, typer.Option(min=0, help="Most candidates to try.")] = None,
    allow_slower: Annotated[
        bool, typer.Option("--allow-slower", help="Keep an int8 model that is slower than the float one.")
    ] = False,
    preset: opt.Preset = None,
    target_device: opt.Target = TargetDevice.ANY,
    subset_size: opt.SubsetSize = 300,
    model_type: opt.Family = None,
    ignored_names: opt.IgnoredNames = None,
    ignored_patterns: opt.IgnoredPatterns = None,
    ignored_types: opt.IgnoredTypes = None,
    placement: opt.PlacementOption = None,
    batch_size: opt.BatchSize = 1,
) -> None:
    """Find the fastest int8 model whose metric falls by no more than --max-drop.

    The same command with the same OUT goes on where an earlier one was cut off.

    Exit codes: 0 the limit was reached, 3 it was not (OUT holds the float model), 2 bad usage, 1 other errors.
    """
    import maxdrop as md
    from maxdrop.commands.data import open_dataset
    from maxdrop.commands.finish import finished_trials, resume_line

    validation, function = _validation(validation_data, validate, metric, labels, batch_size)
    opt.model_path(model, output)
    choices = opt.QuantizationChoices(
        preset, target_device, subset_size, model_type, ignored_names, ignored_patterns, ignored_types, placement
    )
    restorer = md.AdvancedAccuracyRestorerParameters()
    if max_iterations is not None:
        restorer.max_num_iterations = max_iterations
    budget: dict[str, Any] = {} if max_validations is None else {"max_validations": max_validations}
    before = finished_trials(output)
    result = md.control_accuracy(
        model,
        open_dataset("--data", data, batch_size),
        validation,
        function,
        max_drop=max_drop,
        drop_type=drop_type,
        higher_is_better=not lower_is_better,
        min_metric=min_metric,
        confidence=confidence,
        holdout=holdout,
        seed=seed,
        advanced_accuracy_restorer_parameters=restorer,
        compile_config=opt.parse_config(compile_config),
        time_budget=time_budget,
        output_dir=output,
        allow_slower=allow_slower,
        **budget,
        **choices.as_arguments(),
    )
    typer.echo(result.summary())
    typer.echo(resume_line(before, result))
    typer.echo(f"model       {output / 'model.xml'}\nreport      {output / 'report.html'}")
    if not result.reached:
        raise typer.Exit(NOT_REACHED)


def _validation(spec: str, validate: str | None, metric: str | None, labels: Path | None, batch_size: int) -> Any:
    """The validation dataset and function that the user means."""
    from maxdrop.commands.data import Labelled, import_object, open_dataset, top1_accuracy
    from maxdrop.dataset import Dataset

    if (validate is None) == (metric is None):
        message = "give either --validate pkg.mod:fn, or --metric accuracy with --labels"
        raise typer.BadParameter(message)
    if validate is not None:
        function = import_object("--validate", validate)
        return open_dataset("--validation-data", spec, batch_size), function
    if metric not in _METRICS:
        message = f"must be one of {list(_METRICS)}, but got {metric!r}; use --validate for any other"
        raise typer.BadParameter(message, param_hint="--metric")
    if labels is None:
        message = "--metric accuracy needs --labels L.npy"
        raise typer.BadParameter(message)
    items = open_dataset("--validation-data", spec, batch_size)
    return Dataset(Labelled(items, labels, batch_size)), top1_accuracy
