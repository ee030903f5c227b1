"""maxdrop control."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from maxdrop.commands import options as opt
from maxdrop.commands.expand import expand
from maxdrop.commands.limits import Limit

if TYPE_CHECKING:
    from maxdrop.dataset import Dataset

NOT_REACHED = 3
"""Exit code when nothing but the float model is within the limit."""

INTERRUPTED = 130
"""Exit code of a run that was interrupted before there was anything to return; shells use it too."""

_METRICS = ("accuracy",)


class ObjectiveName(str, Enum):
    """What to be best at (`maxdrop.search.gain.Objective`), as typer takes it."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"
    SIZE = "size"
    OPS = "ops"


class ExecutorChoice(str, Enum):
    """Where trials run (`maxdrop.executors.choice.ExecutorName`), as typer takes it."""

    SERIAL = "serial"
    PROCESSES = "processes"


@dataclass(frozen=True)
class Validation:
    """How a model is scored."""

    panel: ClassVar[str] = "Validation"

    validation_data: Annotated[
        str,
        typer.Option("--validation-data", metavar="V", help="Items to validate with; as --data.", show_default=False),
    ]
    validate: Annotated[
        str | None,
        typer.Option(
            metavar="PKG.MOD:FN",
            help="validate(compiled_model, items) -> metric, or (metric, per item), or a dict of several metrics.",
        ),
    ] = None
    metric: Annotated[str | None, typer.Option(help="A metric by name instead of --validate: accuracy.")] = None
    labels: Annotated[
        Path | None, typer.Option(metavar="L.npy", help="One integer to a validation sample, for --metric accuracy.")
    ] = None

    def open(self, batch_size: int, several: bool) -> tuple[Dataset, Any]:
        """The validation dataset and function that the user means.

        Args:
            batch_size: for array files.
            several: whether there are limits on several metrics.
        """
        from maxdrop.commands.data import Labelled, import_function, open_dataset, top1_accuracy
        from maxdrop.dataset import Dataset

        if (self.validate is None) == (self.metric is None):
            message = "give either --validate pkg.mod:fn, or --metric accuracy with --labels"
            raise typer.BadParameter(message)
        if self.validate is not None:
            function = import_function("--validate", self.validate)
            return open_dataset("--validation-data", self.validation_data, batch_size), function
        if self.metric not in _METRICS:
            message = f"must be one of {list(_METRICS)}, but got {self.metric!r}; use --validate for any other"
            raise typer.BadParameter(message, param_hint="--metric")
        if self.labels is None:
            message = "--metric accuracy needs --labels L.npy"
            raise typer.BadParameter(message)
        if several:
            message = "--metric accuracy is a single metric, so --max-drop must be a plain number; or use --validate"
            raise typer.BadParameter(message)
        items = open_dataset("--validation-data", self.validation_data, batch_size)
        return Dataset(Labelled(items, self.labels, batch_size)), top1_accuracy


@dataclass(frozen=True)
class Search:
    """How to search."""

    panel: ClassVar[str] = "Search"

    objective: Annotated[
        ObjectiveName | None,
        typer.Option(help="What the result is to be best at, within the limit; latency when left out."),
    ] = None
    max_validations: Annotated[
        int | None, typer.Option(min=2, help="Most passes over the validation data; as in Python when left out.")
    ] = None
    time_budget: Annotated[float | None, typer.Option(help="Seconds after which no candidate is started.")] = None
    max_iterations: Annotated[int | None, typer.Option(min=0, help="Most candidates to try.")] = None
    strategy: Annotated[
        str | None, typer.Option(help="bracket, or greedy to compare with; as in Python when left out.")
    ] = None
    executor: Annotated[
        ExecutorChoice | None, typer.Option(help="Where trials run; in this process when left out.")
    ] = None
    workers: Annotated[int | None, typer.Option(min=1, help="Number of processes, for --executor processes.")] = None
    seed: Annotated[int, typer.Option(help="Of everything that is sampled.")] = 0
    allow_slower: Annotated[
        bool, typer.Option("--allow-slower", help="Keep an int8 model that is slower than the float one.")
    ] = False
    strict: Annotated[
        bool, typer.Option("--strict", help="An error instead of a warning where the limit was not reached.")
    ] = False

    def as_arguments(self) -> dict[str, Any]:
        """Keyword arguments of `maxdrop.control_accuracy`; what the user left out is left to it."""
        from maxdrop.options import AdvancedAccuracyRestorerParameters

        restorer = AdvancedAccuracyRestorerParameters()
        if self.max_iterations is not None:
            restorer.max_num_iterations = self.max_iterations
        chosen = {
            "objective": None if self.objective is None else self.objective.value,
            "max_validations": self.max_validations,
            "time_budget": self.time_budget,
            "strategy": self.strategy,
            "executor": None if self.executor is None else self.executor.value,
            "workers": self.workers,
        }
        return {
            "advanced_accuracy_restorer_parameters": restorer,
            "seed": self.seed,
            "allow_slower": self.allow_slower,
            "strict": self.strict,
            **{name: value for name, value in chosen.items() if value is not None},
        }


@expand
def control(
    model: opt.Model,
    data: opt.Data,
    output: opt.Output,
    validation: Validation,
    limit: Limit,
    search: Search,
    quantization: opt.Quantization,
    batch_size: opt.BatchSize = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it will cost, and start and write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    progress: opt.Progress = None,
) -> None:
    """Find the fastest int8 model whose metric falls by no more than --max-drop.

    The same command with the same OUT goes on where an earlier one was cut off.

    Exit codes: 0 the limit was reached, 3 it was not (OUT holds the float model), 2 bad usage, 1 other errors.
    """
    import maxdrop as md
    from maxdrop.backends.registry import open_model
    from maxdrop.commands.data import note_conversions, open_dataset
    from maxdrop.commands.finish import finished_trials, report_cost, report_result

    opt.output_folder(model, output)
    options = {**limit.as_arguments(), **search.as_arguments(), **quantization.as_arguments()}
    items, function = validation.open(batch_size, several=isinstance(options["max_drop"], dict))
    dataset = open_dataset("--data", data, batch_size)
    backend, opened = open_model(model, quantization.target_device.value)
    note_conversions("--data", dataset, backend.graph(opened))
    if dry_run:
        report_cost(md.predict_cost(opened, dataset, items, function, output_dir=output, **options), output, as_json)
        return
    before = finished_trials(output)
    try:
        result = md.control_accuracy(
            opened, dataset, items, function, output_dir=output, progress=progress, **options
        )  # fmt: skip
    except KeyboardInterrupt:  # before the float model was scored: later ones end the search with the best so far
        typer.echo(f"interrupted; the same command goes on with what is in {output}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    report_result(result, output, before, as_json)
    if not result.reached:
        raise typer.Exit(NOT_REACHED)
