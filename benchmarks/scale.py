"""Cost against size: runs both tools on growing networks and fits the exponent on a log-log scale."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Comparison, Options, Say
from benchmarks.report import machine
from benchmarks.summary import measures
from benchmarks.task import cache_folder

_SIZES = {"ops": (50, 100, 200, 500, 1000), "mb": (5, 20, 100, 500, 2000)}
_AXES = {"ops": "quantizable ops", "mb": "MB of float weights"}
_SHOWN = ("wall time of the call, s", "own forwards", "sample evaluations", "peak memory, MB")


@dataclass(frozen=True)
class Sweep:
    """What is swept; empty `sizes` stands for the usual ones of the axis, `ops` or `mb`.

    The peer gets sizes up to `peer_up_to`, or all for 0.
    """

    axis: str
    sizes: tuple[int, ...]
    modes: tuple[str, ...]
    tool: str
    peer: str
    max_drop: float
    rounds: int
    limit_seconds: float
    peer_up_to: int = 0

    def label(self, mode: str) -> str:
        """A file name for the results."""
        return f"scale-{self.axis}-{mode}-{self.tool}-vs-{self.peer}".replace(":", ".")


def run_sweep(sweep: Sweep, results: Path, say: Say) -> None:
    """Runs all sizes and modes; every mode gives a JSON file, a Markdown table and a plot."""
    if sweep.axis not in _SIZES:
        raise ValueError(f"the axis must be one of {sorted(_SIZES)}, but got {sweep.axis!r}")
    results.mkdir(parents=True, exist_ok=True)
    for mode in sweep.modes:
        given_up: dict[str, str] = {}
        points = [_point(sweep, mode, size, given_up, say) for size in sorted(sweep.sizes or _SIZES[sweep.axis])]
        exponents = {name: {side: growth(points, name, side) for side in "AB"} for name in _SHOWN}
        facts = {"sweep": asdict(sweep), "mode": mode, "machine": machine()}
        path = {kind: results / f"{sweep.label(mode)}.{kind}" for kind in ("json", "md", "svg")}
        path["json"].write_text(json.dumps({**facts, "points": points, "exponents": exponents}, indent=1))
        table = _markdown(sweep, mode, _rows(points, exponents))
        path["md"].write_text(table)
        say(table)
        _plot(sweep, mode, points, exponents, path["svg"])


def growth(points: list[dict[str, Any]], name: str, side: str) -> float | None:
    """The exponent e of cost = c * size ** e, by least squares of the logarithms; None below two points."""
    pairs = [(point["size"], value) for point in points if (value := point["values"][name][side])]
    if len(pairs) < 2:
        return None
    sizes, values = np.log(np.array(pairs, float)).T
    return float(np.polyfit(sizes, values, 1)[0])


def _point(sweep: Sweep, mode: str, size: int, given_up: dict[str, str], say: Say) -> dict[str, Any]:
    """Runs one size; a side that takes too long is added to `given_up`, for the larger sizes take longer still."""
    if 0 < sweep.peer_up_to < size:
        given_up["B"] = f"not run above {sweep.peer_up_to}"
    options = Options(
        task=f"scale-{sweep.axis}-{size}",
        tool=sweep.tool,
        peer=sweep.peer,
        mode=mode,
        max_drop=sweep.max_drop,
        rounds=sweep.rounds,
        limit_seconds=sweep.limit_seconds,
        blocks=0,
    )
    comparison = Comparison(options, _folder(options), say, plain=False, given_up=given_up)
    data = comparison.run()
    given_up |= comparison.given_up
    lines = {line["name"]: line for line in measures(data)}
    values = {name: {side: line[side][0] if line[side] else None for side in "AB"} for name, line in lines.items()}
    status = {side: data["rounds"][-1][side]["status"] for side in "AB"}
    return {"size": size, "status": status, "values": values}


def _folder(options: Options) -> Path:
    return cache_folder() / "scale" / options.label()


def _rows(points: list[dict[str, Any]], exponents: dict[str, Any]) -> list[list[str]]:
    rows = []
    for point in points:
        cells = [str(point["size"])]
        for name in _SHOWN:
            for side in "AB":
                value = point["values"][name][side]
                cells.append(point["status"][side] if value is None else f"{value:.4g}")
        rows.append(cells)
    grown = [exponents[name][side] for name in _SHOWN for side in "AB"]
    return [*rows, ["exponent", *("-" if value is None else f"{value:.2f}" for value in grown)]]


def _head(sweep: Sweep) -> list[str]:
    sides = (("A", sweep.tool), ("B", sweep.peer))
    return [_AXES[sweep.axis], *(f"{name}, {side}: {tool}" for name in _SHOWN for side, tool in sides)]


def _markdown(sweep: Sweep, mode: str, rows: list[list[str]]) -> str:
    head = _head(sweep)
    cells = [head, ["---"] * len(head), *rows]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    return f"### Cost of {mode} against {_AXES[sweep.axis]}\n\n{lines}\n"


def _plot(sweep: Sweep, mode: str, points: list[dict[str, Any]], exponents: Any, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.fonttype"] = "none"  # text instead of outlines: a third smaller
    from matplotlib import pyplot

    figure, panes = pyplot.subplots(1, len(_SHOWN), figsize=(4 * len(_SHOWN), 3.6), layout="constrained")
    for pane, name in zip(panes, _SHOWN, strict=True):
        for side, tool, mark in (("A", sweep.tool, "o-"), ("B", sweep.peer, "s--")):
            pairs = [(p["size"], p["values"][name][side]) for p in points if p["values"][name][side]]
            if not pairs:
                continue
            exponent = exponents[name][side]
            label = tool if exponent is None else f"{tool}: size^{exponent:.2f}"
            pane.loglog(*zip(*pairs, strict=True), mark, label=label)
        pane.set(title=name, xlabel=_AXES[sweep.axis])
        pane.legend() if pane.lines else pane.text(0.5, 0.5, "none", transform=pane.transAxes)
    figure.suptitle(f"cost of {mode}")
    figure.savefig(path)
    pyplot.close(figure)
