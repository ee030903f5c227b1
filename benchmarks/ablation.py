"""What each part of quantization is worth: `python -m benchmarks.ablation TASK... --out docs/ablation.md`.

Every row changes one thing against the defaults. SQNR compares the outputs with those of the float model on items
that were not used for calibration, in float32 where the model stays float.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from benchmarks.task import Task, load_task
from maxdrop.backends.openvino.backend import OpenVINOBackend
from maxdrop.data.graph import Graph
from maxdrop.data.plan import Candidate
from maxdrop.data.spec import ActivationPolicy, EstimatorSpec, Policy, SmoothQuantPolicy, WeightPolicy
from maxdrop.data.statistics import Statistics
from maxdrop.ptq.build import Planner
from maxdrop.ptq.calibration import calibration_requests
from maxdrop.ptq.fusing import is_transformer
from maxdrop.ptq.payoff import choose_int8
from maxdrop.ptq.ranges import ESTIMATORS

_CONFIG = {"INFERENCE_PRECISION_HINT": "f32"}
_HEAD = "| model | variant | SQNR, dB | metric | plan, s |\n|---|---|---|---|---|\n"


def variants() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and changed fields of the policy."""
    yield "defaults", {}
    for name in sorted(set(ESTIMATORS) - {"auto"}):
        yield f"ranges: {name}", {"activations": ActivationPolicy(estimator=EstimatorSpec(name=name))}
    yield "symmetric activations", {"activations": ActivationPolicy(symmetric=True)}
    yield "no bias correction", {"bias_correction": False}
    yield "no SmoothQuant", {"smooth_quant": SmoothQuantPolicy(matmul=None)}
    yield "SmoothQuant, alpha 0.5", {"smooth_quant": SmoothQuantPolicy(matmul=0.5)}
    yield "SmoothQuant, alpha 0.95", {"smooth_quant": SmoothQuantPolicy(matmul=0.95)}
    yield "SmoothQuant of convolutions too", {"smooth_quant": SmoothQuantPolicy(convolution="auto")}
    yield "GPTQ rounding", {"weights": WeightPolicy(rounding="gptq")}
    yield (
        "none of all",
        {
            "activations": ActivationPolicy(estimator=EstimatorSpec(name="minmax")),
            "bias_correction": False,
            "smooth_quant": SmoothQuantPolicy(matmul=None),
        },
    )


class _Bench:
    """One task, calibrated once."""

    def __init__(self, task: Task, calibration: int, held_out: int, validation: int) -> None:
        split = task.split(0)
        self._task = task
        self._backend = OpenVINOBackend()
        self._model = self._backend.load(task.model())
        self._graph: Graph = self._backend.graph(self._model)
        self._items = [task.transform(item) for item in (split.held_out or split.validation)[:held_out]]
        self._validation = split.validation[:validation]
        self._policy = Policy(transformer=is_transformer(self._graph))
        requests = calibration_requests(self._graph, choose_int8(self._graph, self._policy)[0])
        samples = islice((task.transform(item) for item in split.calibration), calibration)
        self._statistics: Statistics = self._backend.observe(self._model, requests, samples, lambda done: None)
        self._reference, self.metric = self._run(self._model)

    def score(self, changes: Mapping[str, Any]) -> tuple[float, float, float]:
        """SQNR in dB, metric, seconds of planning."""
        planner = Planner(self._graph, self._policy.model_copy(update=dict(changes)), self._statistics)
        begin = time.perf_counter()
        plan = planner(Candidate())
        seconds = time.perf_counter() - begin
        outputs, metric = self._run(self._backend.apply(self._model, plan, planner.arrays))
        noise = sum(float(np.square(a - b).sum()) for a, b in zip(self._reference, outputs, strict=True))
        power = sum(float(np.square(a).sum()) for a in self._reference)
        return float(-10.0 * np.log10(max(noise, 1e-30) / power)), metric, seconds

    def _run(self, model: ov.Model) -> tuple[list[Any], float]:
        compiled = self._backend.compile(model, _CONFIG)
        outputs = [np.asarray(compiled(item)[0], np.float64).copy() for item in self._items]
        return outputs, self._task.validate(compiled, self._validation)[0]


def table(tasks: Sequence[str], calibration: int, held_out: int, validation: int) -> Iterator[str]:
    """Lines of the Markdown table, as they become known."""
    for name in tasks:
        bench = _Bench(load_task(name), calibration, held_out, validation)
        yield f"| {name} | float | | {bench.metric:.4f} | |\n"
        for label, changes in variants():
            sqnr, metric, seconds = bench.score(changes)
            yield f"| {name} | {label} | {sqnr:.2f} | {metric:.4f} | {seconds:.2f} |\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", default=["minilm", "efflite0", "demo"])
    parser.add_argument("--calibration", type=int, default=300)
    parser.add_argument("--held-out", type=int, default=40)
    parser.add_argument("--validation", type=int, default=400)
    parser.add_argument("--out", type=Path, help="file to write the table to, between its markers")
    chosen = parser.parse_args()
    lines = [_HEAD]
    print(_HEAD, end="", flush=True)
    for line in table(chosen.tasks, chosen.calibration, chosen.held_out, chosen.validation):
        print(line, end="", flush=True)
        lines.append(line)
    if chosen.out is not None:
        _write(chosen.out, "".join(lines))


_BEGIN, _END = "<!-- table -->\n", "<!-- end of table -->\n"


def _write(path: Path, text: str) -> None:
    """Replaces what stands between the markers, and adds them to a file that has none."""
    old = path.read_text() if path.exists() else ""
    if _BEGIN not in old or _END not in old:
        old += _BEGIN + _END
    head, _, rest = old.partition(_BEGIN)
    path.write_text(head + _BEGIN + text + _END + rest.partition(_END)[2])


if __name__ == "__main__":
    main()
