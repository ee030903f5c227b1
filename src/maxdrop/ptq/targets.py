"""What each target executes in int8, and on which ops that pays. Data only.

"legal" lists the activation schemes that the runtime really executes in integers with symmetric int8 weights,
per output channel or per tensor; any other scheme falls back to float there. "pays" says whether int8 is worth
it by default: int8 on an op that does not become faster costs accuracy and time at once. The CPU rows were
measured (`maxdrop probe` prints the table for this machine); GPU and NPU rows follow what their drivers document
and are conservative.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from maxdrop.data.graph import OpKind

Scheme = Literal["symmetric", "asymmetric"]


class Row(NamedTuple):
    """One kind of op on one target."""

    legal: tuple[Scheme, ...]
    pays: bool
    reason: str = ""
    per_channel_activations: bool = False
    measurable: bool = True


_BOTH: tuple[Scheme, ...] = ("symmetric", "asymmetric")
_SYMMETRIC: tuple[Scheme, ...] = ("symmetric",)

_PRODUCT = "product of two activations: int8 gains little and costs accuracy"
_DEPTHWISE = "depthwise convolution: bound by memory, int8 makes it hardly faster"
_GROUPED = "grouped convolution: too few channels to a group for the int8 kernels to gain"

_CPU = {
    OpKind.CONVOLUTION: Row(_BOTH, pays=True),
    OpKind.GROUP_CONVOLUTION: Row(_BOTH, pays=False, reason=_GROUPED),
    OpKind.DEPTHWISE_CONVOLUTION: Row(_BOTH, pays=False, reason=_DEPTHWISE, per_channel_activations=True),
    OpKind.CONV_TRANSPOSE: Row(_SYMMETRIC, pays=True),
    OpKind.MATMUL: Row(_BOTH, pays=True),
}
_ACCELERATOR = {kind: row._replace(legal=_SYMMETRIC, per_channel_activations=False) for kind, row in _CPU.items()}

TARGETS: dict[str, dict[OpKind, Row]] = {
    "ANY": _CPU,
    "CPU": _CPU,
    "CPU_SPR": _CPU,
    "GPU": _ACCELERATOR,
    "NPU": _ACCELERATOR,
}

ACTIVATION_PRODUCT = Row(_SYMMETRIC, pays=False, reason=_PRODUCT, measurable=False)
"""A matrix product of two activations, on every target."""

SMALL_MACS_SHARE = 0.0005
"""An op with a smaller share of the model's multiply-accumulates is not worth a conversion."""

NEVER = {
    OpKind.ATTENTION: "fused attention: the runtime has no int8 kernel for it",
    OpKind.RECURRENT: "recurrent cell: the runtime executes it in float here",
    OpKind.CONTROL_FLOW: "body of a control-flow op: stays float",
}
"""Kinds with multiply-accumulates that no target executes in int8."""
