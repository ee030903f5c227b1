"""The tools that are compared: one function each, from a job to a model."""

import importlib
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openvino as ov

from benchmarks.task import Task


@dataclass
class Job:
    """What a tool is asked to do.

    Attributes:
        task: The task; tools use its `transform` only.
        model_path: The float model.
        calibration: Items for calibration.
        validation: Items for validation.
        validate: The validation function, as a user would hand it over.
        mode: `quantize` or `control`.
        max_drop: The allowed absolute drop, in mode `control`.
        config: The compile configuration of the run.
        arguments: `model_type` and `preset` in lower case, where asked for.
        notes: What the tool says about its own result, for the record.
    """

    task: Task
    model_path: Path
    calibration: Sequence[Any]
    validation: Sequence[Any]
    validate: Callable[[ov.CompiledModel, Iterable[Any]], Any]
    mode: str
    max_drop: float
    config: dict[str, Any]
    arguments: dict[str, str]
    notes: dict[str, Any] = field(default_factory=dict)

    def read(self) -> ov.Model:
        """Reads the float model."""
        return ov.Core().read_model(self.model_path)


Tool = Callable[[Job], ov.Model]


def float_floor(job: Job) -> ov.Model:
    """The model as it is."""
    return job.read()


def maxdrop(job: Job) -> ov.Model:
    """Maxdrop through its native entry points."""
    import maxdrop as md

    arguments = _named_arguments(md, job.arguments)
    calibration = md.Dataset(job.calibration, job.task.transform)
    if job.mode == "quantize":
        quantized: ov.Model = md.quantize(job.read(), calibration, **arguments)
        return quantized
    validation = md.Dataset(job.validation, job.task.transform)
    result = md.control_accuracy(
        job.read(),
        calibration,
        validation,
        job.validate,
        max_drop=job.max_drop,
        compile_config=job.config,
        **arguments,
    )
    for name in ("reached", "drop", "drop_interval", "stop_reason", "speedup"):
        job.notes[name] = _jsonable(getattr(result, name, None))
    model: ov.Model = result.model
    return model


def maxdrop_shim(job: Job) -> ov.Model:
    """Maxdrop through the names and signatures of NNCF."""
    import maxdrop as md

    return _with_nncf_names(md, job, _named_arguments(md, job.arguments))


def nncf_default(job: Job) -> ov.Model:
    """NNCF with default arguments, or with those of the run."""
    import nncf

    return _with_nncf_names(nncf, job, _named_arguments(nncf, job.arguments))


def nncf_best(job: Job) -> ov.Model:
    """NNCF as an expert calls it: model type and preset of the task, values per item returned."""
    import nncf

    best = {"preset": "mixed", **job.task.best_arguments, **job.arguments}
    return _with_nncf_names(nncf, job, _named_arguments(nncf, best))


def onnxruntime_static(job: Job) -> ov.Model:
    """ONNX Runtime's static quantization (QDQ, weights per channel), run by OpenVINO afterwards."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if job.mode != "quantize" or job.task.onnx is None:
        raise ValueError("onnxruntime takes part in mode quantize, with tasks that have an ONNX file")
    source = job.task.onnx()
    name = job.read().input().any_name
    transform = job.task.transform

    class Reader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self.items = iter(job.calibration)

        def get_next(self) -> dict[str, Any] | None:
            item = next(self.items, None)
            return None if item is None else {name: transform(item)}

    with tempfile.TemporaryDirectory() as folder:
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(quantized),
            Reader(),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return ov.Core().read_model(quantized.read_bytes())


TOOLS: dict[str, Tool] = {
    "float": float_floor,
    "maxdrop": maxdrop,
    "maxdrop-shim": maxdrop_shim,
    "nncf": nncf_default,
    "nncf-best": nncf_best,
    "onnxruntime": onnxruntime_static,
}

# a run with one of these gives both sides a validation function that returns values per item
WANT_PER_ITEM = {"nncf-best"}


_PACKAGES = {
    "maxdrop": "maxdrop",
    "maxdrop-shim": "maxdrop",
    "nncf": "nncf",
    "nncf-best": "nncf",
    "onnxruntime": "onnxruntime.quantization",
}


def load_tool(name: str) -> Tool:
    """Finds a tool in the table, or by `module:function`."""
    if ":" in name:
        module, _, function = name.partition(":")
        tool: Tool = getattr(importlib.import_module(module), function)
        return tool
    if name not in TOOLS:
        raise KeyError(f"the tool must be `module:function` or one of {sorted(TOOLS)}, but got {name!r}")
    return TOOLS[name]


def import_tool(name: str) -> float:
    """Imports the package of a tool, so that its call is timed without; returns the seconds that it took."""
    start = time.perf_counter()
    if package := _PACKAGES.get(name):
        importlib.import_module(package)
    return time.perf_counter() - start


def _with_nncf_names(api: Any, job: Job, arguments: dict[str, Any]) -> ov.Model:
    calibration = api.Dataset(job.calibration, job.task.transform)
    model: ov.Model
    if job.mode == "quantize":
        model = api.quantize(job.read(), calibration, **arguments)
    else:
        validation = api.Dataset(job.validation, job.task.transform)
        model = api.quantize_with_accuracy_control(
            job.read(), calibration, validation, job.validate, max_drop=job.max_drop, **arguments
        )
    return model


def _named_arguments(api: Any, arguments: dict[str, str]) -> dict[str, Any]:
    enums = {"model_type": "ModelType", "preset": "QuantizationPreset"}
    return {name: getattr(api, enums[name])(value) for name, value in arguments.items()}


def _jsonable(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [_jsonable(part) for part in value]
    return str(value)
