"""What is done with every graph: quantize it, build the plan again, run both models."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

import maxdrop as md
from maxdrop.backends.openvino.backend import OpenVINOBackend
from maxdrop.backends.openvino.feed import infer
from maxdrop.data.plan import QuantizationPlan
from maxdrop.data.spec import ActivationPolicy, EstimatorSpec, Policy, SmoothQuantPolicy
from maxdrop.ptq.build import Planner
from maxdrop.ptq.calibration import calibration_requests
from maxdrop.ptq.numerics import sqnr
from maxdrop.ptq.payoff import choose_int8
from tests.graphs.case import Placement

F32 = {"INFERENCE_PRECISION_HINT": "f32"}
BACKEND = OpenVINOBackend()
PLAIN = Policy(
    placement="all",
    activations=ActivationPolicy(estimator=EstimatorSpec(name="minmax")),
    smooth_quant=SmoothQuantPolicy(matmul=None),
)
"""Everything that can run in int8, in the plainest form of quantization."""


@dataclass(frozen=True)
class Outcome:
    """A quantized model and the plan that it came from."""

    planner: Planner
    plan: QuantizationPlan
    model: ov.Model

    @cached_property
    def compiled(self) -> Any:
        """The model as the runtime executes it, with float ops in float32."""
        return BACKEND.compile(self.model, F32)

    @property
    def executed(self) -> Mapping[str, bool]:
        """For each op of the plan, whether the runtime executes it in int8."""
        return BACKEND.executed(self.compiled, self.plan)

    def group(self, value: str) -> str:
        """Group of the activation quantizer on `value`."""
        return next(q.group for q in self.plan.quantizers if q.value == value and not q.constant)


def planner_for(model: ov.Model, samples: Sequence[Any], policy: Policy) -> Planner:
    """Everything up to the plan."""
    graph = BACKEND.graph(model)
    requests = calibration_requests(graph, choose_int8(graph, policy)[0])
    return Planner(graph, policy, BACKEND.observe(model, requests, samples, lambda done: None, exact=False))


def outcome(model: ov.Model, samples: Sequence[Any], policy: Policy | None = None) -> Outcome:
    """Plan and model for a policy."""
    planner = planner_for(model, samples, policy or Policy())
    plan = planner(md.Candidate())
    return Outcome(planner, plan, BACKEND.apply(model, plan, planner.arrays))


def quantize(model: ov.Model, samples: Sequence[Any], placement: Placement) -> Outcome:
    """The result of the public function and its plan, built again from the policy that it records; or a plain plan."""
    if placement == "all":
        return outcome(model, samples, PLAIN)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "nothing in this model is worth int8")
        result = md.quantize(model, md.Dataset(list(samples)), placement="table")
    again = outcome(BACKEND.own(model), samples, Policy.model_validate_json(recorded(result, "policy")))
    assert recorded(result, "plan_key") == again.plan.key()
    return Outcome(again.planner, again.plan, result)


def recorded(model: ov.Model, key: str) -> str:
    """What the quantized model says about itself."""
    return str(model.get_rt_info(["maxdrop", key]).astype(str))


def run(model: ov.Model | ov.CompiledModel, samples: Sequence[Any]) -> list[list[NDArray[Any]]]:
    """Outputs in float precision, by output and then by sample."""
    compiled = model if isinstance(model, ov.CompiledModel) else BACKEND.compile(model, F32)
    request = compiled.create_infer_request()
    results: list[list[NDArray[Any]]] = [[] for _ in compiled.outputs]
    for number, sample in enumerate(samples):
        infer(request, sample, number)
        for i, values in enumerate(results):
            values.append(request.get_output_tensor(i).data.copy())
    return results


def lowest_sqnr(reference: ov.Model, other: ov.Model | ov.CompiledModel, samples: Sequence[Any]) -> float:
    """SQNR of the worst output in dB."""
    pairs = zip(run(reference, samples), run(other, samples), strict=True)
    return min(sqnr(_flat(a), _flat(b)) for a, b in pairs)


def _flat(parts: list[NDArray[Any]]) -> NDArray[np.float64]:
    return np.concatenate([part.ravel() for part in parts]).astype(np.float64)


def signature(model: ov.Model) -> list[tuple[object, ...]]:
    """Names, shapes and element types of inputs and outputs."""
    return [
        (sorted(port.get_names()), str(port.get_partial_shape()), port.get_element_type().to_string())
        for port in [*model.inputs, *model.outputs]
    ]


def content(model: ov.Model, folder: Path) -> tuple[bytes, bytes]:
    """The files of a model."""
    ov.serialize(model, folder / "content.xml")
    return (folder / "content.xml").read_bytes(), (folder / "content.bin").read_bytes()
