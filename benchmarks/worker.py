"""One child process of the harness: one side of one round, or the scoring or timing of models.

`python -m benchmarks.worker SPEC.json` does what the file says and writes its record beside it.
"""

import json
import math
import resource
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import psutil

from benchmarks.counting import counting
from benchmarks.latency import HINTS, measure
from benchmarks.peers import Job, import_tool, load_tool
from benchmarks.runtime_graph import coverage
from benchmarks.task import Split, Task, digest, file_digest, load_task

_LATENCY_SAMPLES = 8
_COMPARED = 50
"""Held-out items whose outputs are compared with the float model's."""
_TINY = 1e-30
_PACKAGES = ("maxdrop", "nncf", "openvino", "onnxruntime", "onnx", "numpy", "torch")


def main(spec_path: Path) -> None:
    """Runs one spec and writes its record."""
    spec = json.loads(spec_path.read_text())
    record = _KINDS[spec["kind"]](spec)
    record_path(spec_path).write_text(json.dumps(record, indent=1))


def record_path(spec_path: Path) -> Path:
    """Where the record of a spec is written."""
    return spec_path.with_suffix(".record.json")


def run_tool(spec: dict[str, Any]) -> dict[str, Any]:
    """Calls a tool as a user would, and saves the model that it returns."""
    task, split, path = _load(spec)
    tool = load_tool(spec["tool"])
    import_seconds = import_tool(spec["tool"])
    with counting() as counts:
        job = Job(
            task=task,
            model_path=path,
            calibration=split.calibration,
            validation=split.validation,
            validate=counts.wrap(task.validate, spec["per_item"]),
            mode=spec["mode"],
            max_drop=spec["max_drop"],
            config=spec["config"],
            arguments=spec["arguments"],
        )
        memory_before = psutil.Process().memory_info().rss
        cpu, wall = _cpu_seconds(), time.perf_counter()
        model = tool(job)
        wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
    target = Path(spec["model_out"])
    ov.save_model(model, target, compress_to_fp16=False)
    return {
        "seconds": wall,
        "import_seconds": import_seconds,
        "cpu_seconds": cpu,
        **counts.as_dict(),
        "memory_before_bytes": memory_before,
        "memory_process_bytes": _peak_bytes(),
        "file_bytes": target.stat().st_size + target.with_suffix(".bin").stat().st_size,
        "model_digest": file_digest(*_files(path)),
        "data_digest": digest([split.calibration, split.validation]),
        "result_digest": file_digest(target.with_suffix(".bin")),
        "notes": job.notes,
        "versions": {name: text for name in _PACKAGES if (text := _version(name))},
    }


def judge(spec: dict[str, Any]) -> dict[str, Any]:
    """Scores a model with the configuration of the run, whatever the tool said about it."""
    task, split, float_path = _load(spec)
    core = ov.Core()
    float_model, model = core.read_model(float_path), core.read_model(spec["model"])
    if wrong := interface_change(float_model, model):
        return {"wrong": wrong}
    compiled = core.compile_model(model, "CPU", spec["config"])
    metric, _ = task.validate(compiled, split.validation)
    held_out, _ = task.validate(compiled, split.held_out)
    if not (math.isfinite(metric) and math.isfinite(held_out)):
        return {"wrong": f"the metric must be finite, but got {metric} and {held_out}"}
    sample = task.transform(split.validation[0])
    return {
        "metric": metric,
        "held_out": held_out,
        "items": len(split.validation),
        "held_out_items": len(split.held_out),
        "sqnr": output_sqnr(float_model, model, [task.transform(item) for item in split.held_out[:_COMPARED]]),
        "coverage": coverage(model, sample, spec["config"]).as_dict(),
    }


def output_sqnr(float_model: ov.Model, model: ov.Model, inputs: Sequence[Any]) -> float:
    """Power of the float outputs over that of the error, in dB; the mean of several outputs' values.

    Both run in float32 where they are not int8, so that the error is that of quantization alone.
    """
    compiled = [
        ov.Core().compile_model(each, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}) for each in (float_model, model)
    ]
    power, noise = np.zeros((2, len(float_model.outputs)))
    for item in inputs:
        exact, found = ([np.array(x, np.float64) for x in each(item).values()] for each in compiled)
        power += [np.square(x).sum() for x in exact]
        noise += [np.square(x - y).sum() for x, y in zip(exact, found, strict=True)]
    return float(np.mean(10.0 * np.log10(np.maximum(power, _TINY) / np.maximum(noise, _TINY))))


def interface_change(expected: ov.Model, model: ov.Model) -> str:
    """How a model's inputs and outputs differ from those expected, or the empty string."""
    for kind in ("inputs", "outputs"):
        ports, others = getattr(expected, kind), getattr(model, kind)
        if len(ports) != len(others):
            return f"the result must have {len(ports)} {kind}, but has {len(others)}"
        for port, other in zip(ports, others, strict=True):
            if not port.get_partial_shape().compatible(other.get_partial_shape()):
                shapes = f"{port.get_partial_shape()}, but got {other.get_partial_shape()}"
                return f"the {kind} must have the shape {shapes}"
    return ""


def time_models(spec: dict[str, Any]) -> dict[str, Any]:
    """Times several models by interleaved blocks, for every performance hint."""
    task, split, _ = _load(spec)
    inputs = [task.transform(item) for item in split.validation[:_LATENCY_SAMPLES]]
    models = {name: Path(path) for name, path in spec["models"].items()}
    arguments = (spec["config"],)
    return {
        hint: measure(models, inputs, *arguments, hint, spec["blocks"], spec["runs"], spec["seed"]) for hint in HINTS
    }


def _load(spec: dict[str, Any]) -> tuple[Task, Split, Path]:
    task = load_task(spec["task"])
    split = task.split(spec["seed"])
    if limit := spec.get("limit"):
        split = Split(split.calibration[:limit], split.validation[:limit], split.held_out[:limit])
    np.random.seed(spec["seed"])  # tools may draw from the global generator
    return task, split, task.model()


def _files(model: Path) -> list[Path]:
    return [path for path in (model, model.with_suffix(".bin")) if path.exists()]


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # Linux hands `ru_maxrss` on to new programs, so there it knows the parent's peak as well
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


_KINDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "tool": run_tool,
    "judge": judge,
    "latency": time_models,
}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
