"""One op in against one op out: how well each ranks the ops, with few samples and by several output distances.

`python -m benchmarks.studies.ranking TASK --setup minmax` prints three tables and writes them as JSON.

Samples that rank come from the calibration items, the metric that ranks from the first validation items; the error left
is measured on held-out items, and the drop on the other validation items and all that is held out. One op out is
simulated in float with all switches but one on, with float weights, as is one op in; the drop is that of real int8
models.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.studies.distances import distances_of, nmse
from benchmarks.studies.hard import names
from benchmarks.studies.lab import Lab
from benchmarks.studies.one_at_a_time import Tables, evenly, measure, order, reliability
from benchmarks.studies.output import RESULTS, grid, say, write_json

COUNTS = (3, 5, 10, 20)
SIZES = (2, 4, 8, 16)
KINDS = ("one in", "one out")
_DRAWS = 5
_LEGEND = (
    "k=3 to k=20: share of the output error of all ops that is left with the k leading ops in float, activations only; "
    "in brackets the worst of five draws of the samples. int8: the same of real int8 models, with their weights. drop: "
    "of the metric, real int8 models."
)
_STORED = ("name", "left", "worst", "drops", "real_left")


@dataclass(frozen=True)
class Sizes:
    """How much is run.

    Attributes:
        one_in: samples for the tables of one op in.
        one_out: samples for the tables of one op out.
        metric: validation items on which the metric itself ranks; 0 leaves that out.
        left: held-out items on which the error left is measured.
        drop: items on which the drop is measured; 0 leaves it out.
    """

    one_in: int = 64
    one_out: int = 300
    metric: int = 120
    left: int = 32
    drop: int = 600


@dataclass(frozen=True)
class Ranking:
    """Orders of the ops that one way of ranking gave, for one or several draws of samples."""

    name: str
    orders: list[list[str]]
    measure_drop: bool = True
    left: list[float] = field(default_factory=list)
    worst: list[float] = field(default_factory=list)
    drops: list[float] = field(default_factory=list)
    real_left: list[float] = field(default_factory=list)


def study(task: str, setup: str, seed: int, sizes: Sizes, calibration: int, raw: Path) -> dict[str, Any]:
    """Everything about one task, for JSON; the distances of every sample are written to `raw`."""
    start = time.perf_counter()
    lab = Lab(task, setup, seed, calibration)
    say(f"{task} {setup}: {len(lab.ops)} ops")
    shuffled = np.random.default_rng(seed).permutation(len(lab.split.calibration))
    samples = [lab.split.calibration[i] for i in shuffled]
    tables = measure(lab, distances_of(task), samples, sizes.one_in, sizes.one_out, say)
    tables.save(raw)
    rankings = list(_rankings(lab, tables, sizes, seed))
    unseen = (lab.split.held_out or lab.split.validation)[: sizes.left]
    _measure_left(lab, rankings, unseen)
    items = [*lab.split.validation[sizes.metric :], *lab.split.held_out][: sizes.drop]
    metrics = _measure_real(lab, rankings, items, unseen) if items else {}
    total = {name: float(values.mean()) for name, values in tables.total.items()}
    shared = tables.count("one in")
    return {
        "task": task,
        "setup": setup,
        "seed": seed,
        "ops": list(lab.ops),
        "sizes": vars(sizes),
        "metric": {"name": lab.task.metric, "items": len(items), **metrics},
        "total": total,
        "additivity": {
            name: float(tables.one_in[name].mean(axis=0).sum() / tables.total[name][:shared].mean()) for name in total
        },
        "reliability": {
            kind: {d: [reliability(tables, kind, d, size) for size in SIZES] for d in total} for kind in KINDS
        },
        "sensitivity": {kind: tables.scores(kind, "NMSE", range(tables.count(kind))).tolist() for kind in KINDS},
        "rankings": [{**{key: getattr(r, key) for key in _STORED}, "first": r.orders[0][:20]} for r in rankings],
        "seconds": time.perf_counter() - start,
    }


def _rankings(lab: Lab, tables: Tables, sizes: Sizes, seed: int) -> Iterator[Ranking]:
    """All ways of ranking that are compared."""
    distances = list(tables.total)
    for kind in KINDS:
        count = tables.count(kind)
        for distance in distances:
            sets = _draws(count, 4, seed)
            found = [order(lab.ops, tables.scores(kind, distance, picked)) for picked in sets]
            yield Ranking(f"{kind}, {distance}, 4 samples", found, kind == "one in")
            whole = order(lab.ops, tables.scores(kind, distance, range(count)))
            judged = kind == "one out" and distance == distances[0]
            yield Ranking(f"{kind}, {distance}, {count} samples", [whole], judged)
        if count > 16:
            found = [order(lab.ops, tables.scores(kind, distances[0], picked)) for picked in _draws(count, 16, seed)]
            yield Ranking(f"{kind}, {distances[0]}, 16 samples", found, False)
    few = tables.scores("one in", distances[0], evenly(tables.count("one in"), 4))
    weighted = lab.with_weights(dict(zip(lab.ops, few.tolist(), strict=True)))
    yield Ranking("as the search: one in, NMSE, 4 samples, and weights", [order(lab.ops, list(weighted.values()))])
    if sizes.metric:
        yield from _by_metric(lab, sizes.metric)
    random = np.random.default_rng(seed)
    yield Ranking("random", [[lab.ops[i] for i in random.permutation(len(lab.ops))] for _ in range(_DRAWS)])


def _draws(count: int, size: int, seed: int) -> list[Any]:
    """Evenly spaced samples, then random ones."""
    random = np.random.default_rng(seed + 1)
    return [evenly(count, size), *(random.permutation(count)[:size] for _ in range(_DRAWS - 1))]


def _by_metric(lab: Lab, count: int) -> Iterator[Ranking]:
    """The metric itself ranks: what it loses with one op in, or wins with one out."""
    items, everything = lab.split.validation[:count], set(lab.ops)
    say(f"  ranking by the metric on {len(items)} items")
    lost = [-lab.simulated_metric(items, (op,)) for op in lab.ops]
    won = [lab.simulated_metric(items, everything - {op}) for op in lab.ops]
    yield Ranking(f"one in, metric, {len(items)} items", [order(lab.ops, lost)])
    yield Ranking(f"one out, metric, {len(items)} items", [order(lab.ops, won)])


def _measure_left(lab: Lab, rankings: Sequence[Ranking], items: Sequence[Any]) -> None:
    """Share of the output error (NMSE) of all ops that is left without the leading ones of each ranking."""
    references = [lab.outputs(item, ()) for item in items]
    known: dict[frozenset[str], float] = {}

    def error(floats: Sequence[str]) -> float:
        key = frozenset(floats)
        if key not in known:
            on = [op for op in lab.ops if op not in key]
            pairs = zip(references, items, strict=True)
            known[key] = float(np.mean([nmse(r, lab.outputs(item, on)) for r, item in pairs]))
        return known[key]

    say(f"  error left on {len(items)} held-out items")
    for ranking in rankings:
        for count in COUNTS:
            shares = [error(found[:count]) / error(()) for found in ranking.orders]
            ranking.left.append(float(np.mean(shares)))
            ranking.worst.append(float(np.max(shares)))


def _measure_real(
    lab: Lab, rankings: Sequence[Ranking], items: Sequence[Any], unseen: Sequence[Any]
) -> dict[str, float]:
    """Drop and share of the output error left of real int8 models with the leading ops of each ranking in float."""
    say(f"  drops on {len(items)} items")
    floating = lab.compiled_float()
    metric = float(lab.task.validate(floating, items)[0])
    references = [lab.run(floating, item) for item in unseen]
    known: dict[frozenset[str], tuple[float, float]] = {}

    def score(floats: Sequence[str]) -> tuple[float, float]:
        key = frozenset(floats)
        if key not in known:
            compiled = lab.compiled(key)
            pairs = zip(references, unseen, strict=True)
            error = float(np.mean([nmse(r, lab.run(compiled, item)) for r, item in pairs]))
            known[key] = metric - float(lab.task.validate(compiled, items)[0]), error
        return known[key]

    drop, error = score(())
    for ranking in rankings:
        for count in COUNTS if ranking.measure_drop else ():
            found = score(ranking.orders[0][:count])
            ranking.drops.append(found[0])
            ranking.real_left.append(found[1] / error)
    return {"float": metric, "int8_drop": drop, "int8_error": error}


def show(data: dict[str, Any]) -> str:
    """The tables as Markdown."""
    distances = list(data["total"])
    lines = [
        f"### {data['task']}, setup `{data['setup']}`: {len(data['ops'])} ops",
        "",
        "Rank reliability: mean Spearman correlation of two disjoint sets of n samples."
        f" Metric: {data['metric']['name']},"
        f" float {data['metric'].get('float', float('nan')):.4f},"
        f" int8 drop {data['metric'].get('int8_drop', float('nan')):.4f} on {data['metric']['items']} items.",
        "",
    ]
    rows = [
        [kind, d, *(_cell(x, ".2f") for x in data["reliability"][kind][d]), *_additive(data, kind, d)]
        for d in distances
        for kind in KINDS
    ]
    lines.append(grid(["ranked by", "distance", *(f"n={n}" for n in SIZES), "sum of one in / all in"], rows))
    sets = [f"k={count}" for count in COUNTS]
    head = ["ranking", *sets]
    head += [f"int8, {name}" for name in sets] + [f"drop, {name}" for name in sets]
    rows = []
    for ranking in data["rankings"]:
        left = [
            _share(mean) + (f" ({_share(worst)})" if worst > mean + 0.005 else "")
            for mean, worst in zip(ranking["left"], ranking["worst"], strict=True)
        ]
        real = [_share(x) for x in ranking.get("real_left", [])] or [""] * len(COUNTS)
        drops = [f"{x:.4f}" for x in ranking["drops"]] or [""] * len(COUNTS)
        rows.append([ranking["name"], *left, *real, *drops])
    lines += ["", grid(head, rows), "", _LEGEND]
    return "\n".join(lines)


def _additive(data: dict[str, Any], kind: str, distance: str) -> list[str]:
    return [f"{data['additivity'][distance]:.2f}" if kind == "one in" else ""]


def _share(value: float) -> str:
    return format(value, ".2f" if value >= 0.1 else ".3f")


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", nargs="?")
    parser.add_argument("--setup", choices=names(), default="minmax")
    parser.add_argument("--seed", type=int, default=0)
    for name, value in vars(Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    parser.add_argument("--calibration", type=int, default=300)
    parser.add_argument("--show", type=Path, nargs="+", help="print the tables of stored results, and run nothing")
    chosen = parser.parse_args(arguments)
    if chosen.show:
        print("\n\n".join(show(json.loads(file.read_text())) for file in chosen.show))
        return
    if chosen.task is None:
        parser.error("name a task, or give --show")
    sizes = Sizes(**{name: getattr(chosen, name) for name in vars(Sizes())})
    name = f"ranking-{chosen.task.replace(':', '.')}-{chosen.setup}" + (f"-{chosen.seed}" if chosen.seed else "")
    raw = RESULTS / f"{name}.npz"
    data = study(chosen.task, chosen.setup, chosen.seed, sizes, chosen.calibration, raw)
    write_json(name, data)
    print(show(data))


if __name__ == "__main__":
    main()
