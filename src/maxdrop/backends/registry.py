"""The one place where a backend is chosen: a literal table, imported on demand."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from maxdrop.data.protocols import Backend
from maxdrop.errors import UnsupportedBackendError, ValidationError

_BACKENDS = {"openvino": "maxdrop.backends.openvino.backend:OpenVINOBackend"}
_SUFFIXES = {".xml": "openvino", ".onnx": "openvino"}
_ADVICE = {
    "onnx": "convert it with openvino.convert_model(model), or pass the path of the .onnx file",
    "torch": "convert it with openvino.convert_model(model, example_input=...)",
}


def open_model(model: Any, target: str) -> tuple[Backend[Any], Any]:
    """The backend for `model`, and a copy of the model to work on, read from disk if `model` is a path.

    Raises:
        UnsupportedBackendError: when no backend reads it.
        ValidationError: when it is a path that leads to no model.
    """
    if isinstance(model, (str, Path)):
        path = Path(model)
        framework = _SUFFIXES.get(path.suffix.lower())
        if framework is None or not path.is_file():
            wrong = f"{path}" if path.exists() else f"{path}, which does not exist"
            message = f"the model must be an existing file that ends in {' or '.join(_SUFFIXES)}, but got {wrong}"
            raise ValidationError(message)
        backend = _make(framework, target, str(path))
        return backend, backend.own(backend.load(path))
    framework = type(model).__module__.split(".")[0]
    backend = _make(framework, target, f"{type(model).__module__}.{type(model).__name__}")
    return backend, backend.own(model)


def _make(framework: str | None, target: str, got: str) -> Backend[Any]:
    entry = _BACKENDS.get(framework or "")
    if entry is None:
        advice = _ADVICE.get(framework or "", "pass an openvino.Model, or the path of an .xml or .onnx file")
        message = f"the model must be one of {sorted(_BACKENDS)} or a path, but got {got}; {advice}"
        raise UnsupportedBackendError(message)
    module, _, name = entry.partition(":")
    backend: Backend[Any] = getattr(import_module(module), name)(target)
    return backend
