"""The float model with a switch in front of every int8 op: x + m * (FakeQuantize(x) - x).

One compilation serves every subset of ops. Weights stay float in it; it ranks ops and never gives a final score.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as opset

from maxdrop.backends.openvino.apply import fake_quantize
from maxdrop.backends.openvino.feed import infer
from maxdrop.backends.openvino.naming import Names
from maxdrop.data.plan import QuantizationPlan, Quantizer, UseRef

_MASK = "maxdrop_switches"


class OpenVINOSwitchable:
    """A compiled model whose int8 ops can be switched one by one.

    Args:
        model: the float model; stays as it is.
        plan: gives the quantizers of every op that gets a switch.
        config: more to compile it with.
    """

    def __init__(self, model: ov.Model, plan: QuantizationPlan, config: Mapping[str, Any] | None = None) -> None:
        self._ops = list(plan.int8_ops)
        self._index = {op: i for i, op in enumerate(self._ops)}
        switched = model.clone()
        mask = opset.parameter([len(self._ops)], np.float32, name=_MASK)
        mask.output(0).get_tensor().set_names({_MASK})
        self._insert(Names(switched), plan, mask)
        switched.add_parameters([mask])
        switched.validate_nodes_and_infer_types()
        # Without the low-precision passes FakeQuantize is simulated in float and fuses into its neighbours.
        config = {
            **(config or {}),
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "LP_TRANSFORMS_MODE": "NO",
        }
        self._request = ov.Core().compile_model(switched, "CPU", config).create_infer_request()
        self._outputs = len(switched.outputs)

    @property
    def ops(self) -> Sequence[str]:
        """The ops that have a switch, in topological order."""
        return self._ops

    def run(self, sample: Any, on: Iterable[str]) -> list[NDArray[Any]]:
        """Outputs for one sample with the activations of the ops in `on` quantized."""
        mask = np.zeros(len(self._ops), np.float32)
        for op in on:
            mask[self._index[op]] = 1.0
        infer(self._request, sample, 0, {_MASK: mask})
        return [self._request.get_output_tensor(i).data.copy() for i in range(self._outputs)]

    def _insert(self, names: Names, plan: QuantizationPlan, mask: Any) -> None:
        # At the op's own input, below any pass-through op: quantizing commutes with moving values.
        shared: dict[tuple[str, str], Any] = {}
        done: set[UseRef] = set()  # one input may be served by several branches of a Concat, with equal parameters
        for quantizer in plan.quantizers:
            for use, op in _switched(names, quantizer) if not quantizer.constant else ():
                if use in done:
                    continue
                done.add(use)
                node = names.nodes[use.node]
                source = node.input_value(use.index)
                key = (names.value(source), quantizer.group)
                if key not in shared:
                    simulated = fake_quantize(source, quantizer, f"switch/{key[0]}/{quantizer.group}")
                    shared[key] = opset.subtract(simulated, source)
                position = opset.constant(np.array([self._index[op]], np.int64))
                switch = opset.gather(mask, position, opset.constant(np.int64(0)))
                switch = opset.convert(switch, source.get_element_type().to_string())
                mixed = opset.add(source, opset.multiply(shared[key], switch))
                node.input(use.index).replace_source_output(mixed.output(0))


def _switched(names: Names, quantizer: Quantizer) -> list[tuple[UseRef, str]]:
    """Inputs that get a switch, with the op whose switch it is: a skip connection goes with the first op served.

    A quantizer that serves no op has no switch; what it costs is scored with every candidate.
    """
    if not quantizer.serves:
        return []
    skips = [use for use in quantizer.uses if names.nodes[use.node].get_type_name() == "Add"]
    return [*((use, use.node) for use in quantizer.serves), *((use, quantizer.serves[0].node) for use in skips)]
