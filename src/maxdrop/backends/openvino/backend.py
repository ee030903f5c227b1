"""The OpenVINO backend: one method for each thing that the core asks of a framework."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from maxdrop.backends.openvino.apply import apply_plan
from maxdrop.backends.openvino.executed import executed_in_int8
from maxdrop.backends.openvino.feed import infer
from maxdrop.backends.openvino.graph import build_graph
from maxdrop.backends.openvino.isa import saturates
from maxdrop.backends.openvino.latency import block_latencies
from maxdrop.backends.openvino.messages import last_line
from maxdrop.backends.openvino.observe import observe
from maxdrop.backends.openvino.profile import COUNTERS, kernel_names, op_seconds
from maxdrop.backends.openvino.stable_names import with_stable_names
from maxdrop.backends.openvino.switchable import OpenVINOSwitchable
from maxdrop.data.graph import Graph
from maxdrop.data.plan import Arrays, QuantizationPlan
from maxdrop.data.protocols import Progress, Switchable
from maxdrop.data.statistics import Request, Statistics
from maxdrop.errors import PlanError, ValidationError
from maxdrop.version import VERSION

_DEVICES = {"ANY": "CPU", "CPU": "CPU", "CPU_SPR": "CPU", "GPU": "GPU", "NPU": "NPU"}
_PROFILED_RUNS = 30


class OpenVINOBackend:
    """`openvino.Model` in, `openvino.Model` out.

    Args:
        target: row of the target table; models are compiled for its device where the machine has one, and
            for the CPU otherwise.
    """

    def __init__(self, target: str = "ANY") -> None:
        self._core = ov.Core()
        self._viewed: tuple[ov.Model, Graph] | None = None
        self._target = target
        self._threads: dict[str, Any] = {}
        self._wanted = _DEVICES[target]
        self.device = self._wanted if self._wanted in self._core.available_devices else "CPU"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._target,)

    @property
    def versions(self) -> dict[str, str]:
        """Versions that decide what a model computes."""
        return {"openvino": str(ov.get_version())}

    @property
    def machine(self) -> dict[str, str]:
        """What decides how fast a model runs."""
        name = self._core.get_property(self.device, "FULL_DEVICE_NAME")
        return {"device": self.device, "name": str(name), "cores": str(len(os.sched_getaffinity(0)))}

    @property
    def runs_target(self) -> bool:
        """Whether this machine has the device that models are made for."""
        return self._wanted == self.device

    def own(self, model: ov.Model) -> ov.Model:
        """A copy whose names are the same in every process; constants are shared."""
        return with_stable_names(model)

    def graph(self, model: ov.Model) -> Graph:
        """A read-only view of `model`; the last one is remembered, as one flow asks for it many times."""
        if self._viewed is None or self._viewed[0] is not model:
            self._viewed = (model, build_graph(model))
        return self._viewed[1]

    def observe(
        self,
        model: ov.Model,
        requests: Sequence[Request],
        samples: Iterable[Any],
        progress: Progress,
        *,
        exact: bool = True,
    ) -> Statistics:
        """Run `samples` once and return statistics of the requested values.

        With `exact` in float32; otherwise in bfloat16 where this processor has it, as the runtime does by default.
        """
        tensors = observe(model, requests, samples, progress, "f32" if exact else self._fast_precision)
        return Statistics(tensors, self.graph(model).fingerprint)

    @property
    def _fast_precision(self) -> str:
        """The fastest precision with the range of float32."""
        return "bf16" if "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"

    def apply(self, model: ov.Model, plan: QuantizationPlan, arrays: Arrays, *, observable: bool = False) -> ov.Model:
        """A new model that follows `plan`; `model` stays as it is.

        With `observable`, products keep their zero points, so that every value of the float model means the same.

        Raises:
            PlanError: when the plan was made for another model.
        """
        fingerprint = self.graph(model).fingerprint
        if plan.graph != fingerprint:
            message = (
                f"a plan fits only the float model it was made for ({plan.graph[:12]}), but got a model with "
                f"fingerprint {fingerprint[:12]}; make the plan again for this model"
            )
            raise PlanError(message)
        return apply_plan(model, plan, arrays, VERSION, observable=observable)

    def compile(self, model: ov.Model, config: Mapping[str, Any]) -> ov.CompiledModel:
        """The compiled model that the user's validation function receives.

        Raises:
            ValidationError: when the device does not take the configuration.
        """
        try:
            return self._core.compile_model(model, self.device, {**self._threads, **config})
        except RuntimeError as error:
            if not config:
                raise
            message = (
                f"`compile_config` must hold properties of OpenVINO's {self.device} device, with values that it takes, "
                f"but the model cannot be compiled with {dict(config)}: {last_line(error)}"
            )
            raise ValidationError(message) from error

    def limit_threads(self, count: int) -> None:
        """Compile models for at most `count` threads from now on, unless the user's configuration says otherwise."""
        self._threads = {"INFERENCE_NUM_THREADS": count} if self.device == "CPU" else {}

    def outputs(
        self, model: ov.Model, config: Mapping[str, Any], samples: Iterable[Any]
    ) -> Iterator[list[NDArray[Any]]]:
        """Outputs of `model`, compiled with `config`, for one sample after the other."""
        request = self.compile(model, config).create_infer_request()
        for number, sample in enumerate(samples):
            infer(request, sample, number)
            yield [request.get_output_tensor(i).data.copy() for i in range(len(model.outputs))]

    def switchable(self, model: ov.Model, plan: QuantizationPlan) -> Switchable:
        """One compiled model in which each op of the plan can be switched between float and int8."""
        return OpenVINOSwitchable(model, plan, self._threads)

    def executed(self, compiled: Any, plan: QuantizationPlan) -> dict[str, bool]:
        """For each op of the plan, whether the runtime really executes it in integers."""
        return executed_in_int8(compiled, [*plan.int8_ops, *plan.float_ops])

    def latency(
        self, models: Sequence[ov.Model], config: Mapping[str, Any], samples: Sequence[Any], blocks: int
    ) -> NDArray[np.float64]:
        """Seconds per inference, float64 (models, blocks), measured in turns."""
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            compiled = list(pool.map(lambda model: self.compile(model, config), models))
        return block_latencies(compiled, samples, blocks)

    def busy(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """`config` for many inferences at a time, unless it says otherwise itself."""
        return {"PERFORMANCE_HINT": "THROUGHPUT", **config}

    def op_seconds(
        self, models: Sequence[ov.Model], config: Mapping[str, Any], sample: Any, graph: Graph
    ) -> list[dict[str, float]]:
        """Seconds of each op in one inference of each model, by the runtime's counters."""
        compiled = [self.compile(model, {**config, **COUNTERS}) for model in models]
        return op_seconds(compiled, sample, kernel_names(graph), _PROFILED_RUNS)

    def default_reduced_range(self) -> Literal["all", "first", "none"]:
        """Which weights need 7 of 8 bits on the target when the user does not say."""
        return "all" if self.device == "CPU" and saturates() else "none"

    def save(self, model: ov.Model, path: Path) -> None:
        """Write `model` to `path` (.xml) and its constants beside it (.bin); a crash leaves no half file."""
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=".saving-"))
        try:
            ov.serialize(model, folder / path.name)
            weights = path.with_suffix(".bin")
            os.replace(folder / weights.name, weights)
            os.replace(folder / path.name, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def load(self, path: Path) -> ov.Model:
        """Read a model.

        Raises:
            ValidationError: when OpenVINO cannot read the file.
        """
        try:
            return self._core.read_model(path)
        except RuntimeError as error:
            message = f"{path} must be a model that OpenVINO reads (.xml, .onnx, ...), but: {last_line(error)}"
            raise ValidationError(message) from error
