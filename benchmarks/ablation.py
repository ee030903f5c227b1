"""What each part of quantization is worth: `python -m benchmarks.ablation TASK... --out docs/ablation.md`.

Every row changes one thing against the defaults. SQNR compares the outputs with those of the float model on items
that were not used for calibration, in float32 where the model stays float. It is taken in front of a final Softmax:
behind one, a few items that tip over to another class are nearly all of the error, and its value is chance.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from benchmarks.peers import Job, load_tool
from benchmarks.task import Task, load_task
from maxdrop.backends.openvino.backend import OpenVINOBackend
from maxdrop.data.graph import Graph
from maxdrop.data.plan import Candidate
from maxdrop.data.spec import ActivationPolicy, EstimatorSpec, Policy, SmoothQuantPolicy, WeightPolicy
from maxdrop.data.statistics import Statistics
from maxdrop.ptq.build import Planner
from maxdrop.ptq.calibration import calibration_requests
from maxdrop.ptq.payoff import choose_int8
from maxdrop.ptq.ranges import ESTIMATORS
from maxdrop.ptq.sequential_bias import SAMPLES, measure_shifts

_CONFIG = {"INFERENCE_PRECISION_HINT": "f32"}
_HEAD = "| model | variant | SQNR, dB | of the median item | metric | plan, s |\n|---|---|---|---|---|---|\n"
_DRAWS = 300


def variants() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and changed fields of the policy."""
    yield "defaults", {}
    for name in sorted(set(ESTIMATORS) - {"auto"}):
        yield f"ranges: {name}", {"activations": ActivationPolicy(estimator=EstimatorSpec(name=name))}
    yield "symmetric activations", {"activations": ActivationPolicy(symmetric=True)}
    yield "no bias correction", {"bias_correction": False}
    yield "sequential bias correction", {"sequential_bias_correction": True}
    yield "no SmoothQuant", {"smooth_quant": SmoothQuantPolicy(matmul=None, convolution=None)}
    yield "SmoothQuant, alpha 0.5", {"smooth_quant": SmoothQuantPolicy(matmul=0.5)}
    yield "SmoothQuant, alpha 0.95", {"smooth_quant": SmoothQuantPolicy(matmul=0.95)}
    yield "no SmoothQuant of convolutions", {"smooth_quant": SmoothQuantPolicy(convolution=None)}
    yield "SmoothQuant of convolutions, alpha 0.5", {"smooth_quant": SmoothQuantPolicy(convolution=0.5)}
    yield "GPTQ rounding", {"weights": WeightPolicy(rounding="gptq")}
    yield (
        "none of all",
        {
            "activations": ActivationPolicy(estimator=EstimatorSpec(name="minmax")),
            "bias_correction": False,
            "smooth_quant": SmoothQuantPolicy(matmul=None, convolution=None),
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
        self._policy = Policy()
        requests = calibration_requests(self._graph, choose_int8(self._graph, self._policy)[0])
        self._calibration = split.calibration[:calibration]
        samples = [task.transform(item) for item in self._calibration]
        self._few = [samples[i] for i in np.linspace(0, len(samples) - 1, min(SAMPLES, len(samples))).astype(int)]
        self._statistics: Statistics = self._backend.observe(
            self._model, requests, samples, lambda done: None, exact=False
        )
        self._reference, self.metric = self._run(self._model)

    def score(self, changes: Mapping[str, Any]) -> str:
        """Cells of one row: SQNR with its standard error, SQNR of the median item, metric, seconds of planning."""
        planner = Planner(self._graph, self._policy.model_copy(update=dict(changes)), self._statistics)
        begin = time.perf_counter()
        if planner.policy.sequential_bias_correction:
            shifts = measure_shifts(planner, self._backend, self._model, self._few, lambda done: None)
            planner = planner.with_bias_shifts(shifts)
        plan = planner(Candidate())
        seconds = time.perf_counter() - begin
        return f"{self._judge(self._backend.apply(self._model, plan, planner.arrays))} | {seconds:.2f} |"

    def peer(self, name: str) -> str:
        """The same cells for what another tool makes of the model."""
        task = self._task
        job = Job(task, Path(task.model()), self._calibration, [], task.validate, "quantize", 0.0, dict(_CONFIG), {})
        begin = time.perf_counter()
        made = load_tool(name)(job)
        seconds = time.perf_counter() - begin
        return f"{self._judge(made)} | {seconds:.2f} |"

    def _judge(self, model: ov.Model) -> str:
        outputs, metric = self._run(model)
        pairs = list(zip(self._reference, outputs, strict=True))
        noise = np.array([np.square(a - b).sum() for a, b in pairs])
        power = np.array([np.square(a).sum() for a, _ in pairs])
        draws = np.random.default_rng(0).integers(0, len(pairs), (_DRAWS, len(pairs)))
        spread = np.std([_decibels(noise[draw].sum() / power[draw].sum()) for draw in draws])
        typical = _decibels(float(np.median(noise / power)))
        return f"{_decibels(noise.sum() / power.sum()):.2f} ± {spread:.2f} | {typical:.2f} | {metric:.4f}"

    def _run(self, model: ov.Model) -> tuple[list[Any], float]:
        compiled = self._backend.compile(_before_softmax(model), _CONFIG)
        outputs = [np.asarray(compiled(item)[0], np.float64).copy() for item in self._items]
        return outputs, self._task.validate(self._backend.compile(model, _CONFIG), self._validation)[0]


def _before_softmax(model: ov.Model) -> ov.Model:
    """A copy whose first output is what the final Softmax reads, where there is one."""
    copy = model.clone()
    result = copy.get_results()[0]
    last = result.input_value(0).get_node()
    if last.get_type_name() == "Softmax":
        result.input(0).replace_source_output(last.input_value(0))
    return copy


def _decibels(ratio: float) -> float:
    return float(-10.0 * np.log10(max(ratio, 1e-30)))


def table(
    tasks: Sequence[str], calibration: int, held_out: int, validation: int, peers: Sequence[str]
) -> Iterator[str]:
    """Lines of the Markdown table, as they become known."""
    for name in tasks:
        bench = _Bench(load_task(name), calibration, held_out, validation)
        yield f"| {name} | float | | | {bench.metric:.4f} | |\n"
        for label, changes in variants():
            yield f"| {name} | {label} | {bench.score(changes)}\n"
        for peer in peers:
            yield f"| {name} | {peer} | {bench.peer(peer)}\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", default=["demo", "efflite0", "minilm", "ocr-rec"])
    parser.add_argument("--calibration", type=int, default=300)
    parser.add_argument("--held-out", type=int, default=120)
    parser.add_argument("--peer", action="append", default=[], help="another tool to add a row of; repeatable")
    parser.add_argument("--validation", type=int, default=400)
    parser.add_argument("--out", type=Path, help="file to write the table to, between its markers")
    chosen = parser.parse_args()
    lines = [_HEAD]
    print(_HEAD, end="", flush=True)
    for line in table(chosen.tasks, chosen.calibration, chosen.held_out, chosen.validation, chosen.peer):
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
