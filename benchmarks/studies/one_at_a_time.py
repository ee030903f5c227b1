"""Tables of output distances with one op quantized (one in) or all but one (one out), and what follows from them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.studies.distances import Distance
from benchmarks.studies.lab import Lab

Table = NDArray[np.float64]

_SPLITS = 60


@dataclass(frozen=True)
class Tables:
    """Distances to the float outputs.

    Attributes:
        ops: what the columns stand for.
        one_in: by distance, float64 (samples, ops): this op alone is quantized.
        one_out: the same with all but this op quantized.
        total: by distance, float64 (samples,): all ops are quantized.
    """

    ops: tuple[str, ...]
    one_in: dict[str, Table]
    one_out: dict[str, Table]
    total: dict[str, Table]

    def scores(self, kind: str, distance: str, samples: Sequence[int] | NDArray[Any]) -> Table:
        """One number per op from some samples; larger is more sensitive."""
        if kind == "one in":
            return np.asarray(self.one_in[distance][samples].mean(axis=0))
        # what taking the op out saves; the total is the same for all ops of a sample
        return np.asarray(-self.one_out[distance][samples].mean(axis=0))

    def save(self, path: Path) -> None:
        """Write all distances to `path`, an .npz file, with keys such as `one_in/NMSE`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = {"one_in": self.one_in, "one_out": self.one_out, "total": self.total}
        arrays: dict[str, Any] = {f"{part}/{name}": t for part, by in parts.items() for name, t in by.items()}
        np.savez_compressed(path, **arrays)

    def count(self, kind: str) -> int:
        """Number of samples of a kind."""
        table = self.one_in if kind == "one in" else self.one_out
        return len(next(iter(table.values())))


def measure(
    lab: Lab,
    distances: dict[str, Distance],
    samples: Sequence[Any],
    one_in: int,
    one_out: int,
    say: Callable[[str], None],
) -> Tables:
    """Run the first `one_in` and `one_out` samples with every op toggled alone."""
    rows: dict[str, dict[str, list[Any]]] = {k: {d: [] for d in distances} for k in ("in", "out", "total")}
    everything = set(lab.ops)
    for number, item in enumerate(samples[: max(one_in, one_out)]):
        reference = lab.outputs(item, ())
        runs = {"total": [lab.ops]}
        if number < one_in:
            runs["in"] = [(op,) for op in lab.ops]
        if number < one_out:
            runs["out"] = [tuple(everything - {op}) for op in lab.ops]
        for kind, sets in runs.items():
            found = [lab.outputs(item, on) for on in sets]
            for name, distance in distances.items():
                values = [distance(reference, outputs) for outputs in found]
                rows[kind][name].append(values if kind != "total" else values[0])
        if number % 20 == 0:
            say(f"  one at a time: sample {number}")
    made = {kind: {d: np.array(v, np.float64) for d, v in by.items()} for kind, by in rows.items()}
    return Tables(lab.ops, made["in"], made["out"], made["total"])


def reliability(tables: Tables, kind: str, distance: str, size: int, seed: int = 0) -> float | None:
    """Mean Spearman correlation of the rankings by two disjoint random sets of `size` samples."""
    count = tables.count(kind)
    if count < 2 * size:
        return None
    random = np.random.default_rng(seed)
    found = []
    for _ in range(_SPLITS):
        picked = random.permutation(count)[: 2 * size]
        first, second = (tables.scores(kind, distance, half) for half in (picked[:size], picked[size:]))
        found.append(float(spearmanr(first.tolist(), second.tolist()).statistic))
    return float(np.mean(found))


def evenly(count: int, size: int) -> list[int]:
    """Evenly spaced positions, as the search takes its samples."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(size, count))})


def order(ops: Sequence[str], scores: Sequence[float] | Table) -> list[str]:
    """Ops by falling score; ties in topological order."""
    return [ops[i] for i in np.argsort(-np.asarray(scores), kind="stable")]
