"""The command line: `run` compares two tools on one task, `scale` measures cost against size."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.brief import brief_markdown
from benchmarks.harness import Comparison, Options
from benchmarks.peers import TOOLS
from benchmarks.report import machine, markdown, overall_markdown, print_tables
from benchmarks.scale import Sweep, run_sweep
from benchmarks.summary import overall as ratios_overall
from benchmarks.summary import summarize
from benchmarks.task import task_names

RESULTS = Path(__file__).parent / "results"

app = typer.Typer(add_completion=False, no_args_is_help=True)
console = Console()


@app.command("list")
def list_names() -> None:
    """Names the tasks and the tools."""
    console.print("tasks:", ", ".join(task_names()), "(scale-* with a number) or module:function")
    console.print("tools:", ", ".join(TOOLS), "or module:function")


@app.command()
def run(
    task: str,
    peer: str = "nncf",
    tool: str = "maxdrop",
    mode: Annotated[str, typer.Option(help="quantize or control")] = "quantize",
    max_drop: float = 0.01,
    rounds: int = 3,
    seed: int = 0,
    vary_split: Annotated[bool, typer.Option(help="another split of the items every round")] = False,
    swap: Annotated[bool, typer.Option(help="the peer starts the first round")] = False,
    per_item: Annotated[bool | None, typer.Option(help="values per item from the validation function")] = None,
    precision: Annotated[str, typer.Option(help="INFERENCE_PRECISION_HINT, for example f32")] = "",
    model_type: Annotated[str, typer.Option(help="for both sides: transformer")] = "",
    preset: Annotated[str, typer.Option(help="for both sides: performance or mixed")] = "",
    limit_minutes: Annotated[float, typer.Option(help="a run that takes longer is stopped")] = 40.0,
    blocks: Annotated[int, typer.Option(help="latency blocks per model and round; 0: no timing")] = 10,
    runs: Annotated[int, typer.Option(help="inferences per latency block")] = 100,
    limit: Annotated[int, typer.Option(help="at most so many items of each kind, to try things out")] = 0,
    results: Path = RESULTS,
) -> None:
    """Compares two tools on one task."""
    if mode not in ("quantize", "control"):
        raise typer.BadParameter(f"mode must be quantize or control, but got {mode!r}")
    given = {"model_type": model_type, "preset": preset}
    options = Options(
        task=task,
        tool=tool,
        peer=peer,
        mode=mode,
        max_drop=max_drop,
        rounds=rounds,
        seed=seed,
        vary_split=vary_split,
        swap=swap,
        per_item=per_item,
        precision=precision,
        arguments={name: value for name, value in given.items() if value},
        limit_seconds=limit_minutes * 60,
        blocks=blocks,
        runs=runs,
        limit=limit,
    )
    compare(options, results)


@app.command()
def scale(
    tool: str = "maxdrop",
    peer: str = "nncf",
    axis: Annotated[str, typer.Option(help="ops or mb")] = "ops",
    sizes: Annotated[str, typer.Option(help="comma-separated; empty for 50..1000 ops or 5..2000 MB")] = "",
    modes: str = "quantize,control",
    max_drop: float = 0.001,
    rounds: int = 1,
    limit_minutes: float = 40.0,
    peer_up_to: Annotated[int, typer.Option(help="the largest size that the peer gets; 0 for all")] = 0,
    results: Path = RESULTS,
) -> None:
    """Measures the cost of both tools against the number of ops or the size of the model, and plots it."""
    picked = tuple(int(size) for size in sizes.split(",") if size)
    sweep = Sweep(axis, picked, tuple(modes.split(",")), tool, peer, max_drop, rounds, limit_minutes * 60, peer_up_to)
    run_sweep(sweep, results, _say)


@app.command()
def show(files: list[Path]) -> None:
    """Prints the Markdown of stored results again."""
    for file in files:
        print(markdown(_stored(file)))


@app.command()
def brief(files: list[Path]) -> None:
    """Prints a table with one row for each stored result."""
    print(brief_markdown([_stored(file) for file in files]))


@app.command()
def overall(files: list[Path]) -> None:
    """Prints geometric means of the ratios over stored results of the same two tools."""
    comparisons = [_stored(file) for file in files]
    pairs = {(data["options"]["tool"], data["options"]["peer"]) for data in comparisons}
    if len(pairs) != 1:
        raise typer.BadParameter(f"the results must be of the same two tools, but got {sorted(pairs)}")
    print(overall_markdown(ratios_overall(comparisons)))


def compare(options: Options, results: Path) -> dict[str, Any]:
    """Runs a comparison, prints it and stores it as JSON and as Markdown."""
    facts = machine()
    data = Comparison(options, results, _say).run()
    data |= {"machine": facts, "versions": _versions(data), "summary": summarize(data)}
    (results / f"{options.label()}.json").write_text(json.dumps(data, indent=1))
    (results / f"{options.label()}.md").write_text(markdown(data))
    print_tables(data, console)
    return data


def _stored(file: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(file.read_text())
    return data | {"summary": summarize(data)}


def _say(line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)


def _versions(data: dict[str, Any]) -> dict[str, str]:
    versions: dict[str, str] = {}
    for row in data["rounds"]:
        for side in "AB":
            versions |= row[side].get("versions", {})
    return versions


if __name__ == "__main__":
    app()
