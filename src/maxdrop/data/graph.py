"""A read-only view of a model: nodes, values, and who uses what.

There is no edge type. A `Value` knows its producer and its uses; a use *is* the edge. Names are unique and
stable: everything else in the package addresses ops and values by these names, never by position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class OpKind(str, Enum):
    """What an op does, as far as quantization cares. Backends map their native types onto these."""

    PARAMETER = "parameter"
    RESULT = "result"
    CONSTANT = "constant"
    CONVOLUTION = "convolution"
    GROUP_CONVOLUTION = "group_convolution"
    DEPTHWISE_CONVOLUTION = "depthwise_convolution"
    CONV_TRANSPOSE = "conv_transpose"
    MATMUL = "matmul"
    ATTENTION = "attention"
    RECURRENT = "recurrent"
    ADD = "add"
    SUBTRACT = "subtract"
    MULTIPLY = "multiply"
    DIVIDE = "divide"
    RELU = "relu"
    SIGMOID = "sigmoid"
    ACTIVATION = "activation"
    SOFTMAX = "softmax"
    NORMALIZATION = "normalization"
    REDUCE = "reduce"
    AVERAGE_POOL = "average_pool"
    MAX_POOL = "max_pool"
    LAYOUT = "layout"
    CONCAT = "concat"
    SPLIT = "split"
    SLICE = "slice"
    PAD = "pad"
    GATHER = "gather"
    CONVERT = "convert"
    SHAPE = "shape"
    CONTROL_FLOW = "control_flow"
    STATE = "state"
    FAKE_QUANTIZE = "fake_quantize"
    OTHER = "other"


@dataclass(frozen=True)
class Use:
    """One reader of a value: input number `index` of node `node`."""

    node: str
    index: int


@dataclass(frozen=True)
class Value:
    """One tensor of the model.

    Attributes:
        name: unique and stable.
        producer: name of the node that yields it.
        uses: who reads it, in the order of the nodes.
        shape: sizes, None where unknown; None as a whole for an unknown rank.
        dtype: the element type as a numpy name ("float32", "float16", "int64", ...).
        is_constant: True when it depends on constants only; then `Graph.constant` can read it.
    """

    name: str
    producer: str
    uses: tuple[Use, ...]
    shape: tuple[int | None, ...] | None
    dtype: str
    is_constant: bool

    @property
    def is_float(self) -> bool:
        """Whether the element type is a floating-point one."""
        return self.dtype in {"float16", "bfloat16", "float32", "float64"}


@dataclass(frozen=True)
class Contraction:
    """How a convolution or matrix product multiplies and sums.

    Attributes:
        activation_inputs: input numbers that carry data: (0,), or both of a product of two activations.
        channel_axes: for each of these, the axis that is summed over (the input channels).
        weight_input: input number of the constant operand, None for a product of two activations.
        weight_axes: axes of the weight that number the output channels; two for grouped convolutions.
        weight_channel_axis: axis of the weight that numbers the input channels (of one group).
        output_axis: the channel axis of the output.
        groups: number of groups; 1 for dense.
    """

    activation_inputs: tuple[int, ...]
    channel_axes: tuple[int, ...]
    weight_input: int | None
    weight_axes: tuple[int, ...] = ()
    weight_channel_axis: int = 1
    output_axis: int = 1
    groups: int = 1


@dataclass(frozen=True)
class Node:
    """One op.

    Attributes:
        name: unique and stable.
        kind: what it does, in the package's own terms.
        native_type: the framework's name of its type, for users and ignored scopes.
        inputs: names of the values it reads, in order.
        outputs: names of the values it yields, in order.
        contraction: set for convolutions and matrix products.
        macs: multiply-accumulate operations of one inference (see `Graph`); 0 where not counted.
        attrs: the few further facts that decisions need.
    """

    name: str
    kind: OpKind
    native_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    contraction: Contraction | None = None
    macs: int = 0
    attrs: Mapping[str, Any] = field(default_factory=dict)


class Graph:
    """Nodes in topological order and the values between them.

    Multiply-accumulates are counted for one inference with every unknown size taken as the backend's
    `input_shapes` say (batch 1 by default).

    Args:
        nodes: in topological order.
        values: every value that a node yields.
        read_constant: reads the array behind a constant value; called lazily.
        fingerprint: identifies structure and constants; a plan carries it and is refused by another model.
        notes: facts about the model that a report should state.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        values: Iterable[Value],
        read_constant: Callable[[str], NDArray[Any]],
        fingerprint: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._values = {value.name: value for value in values}
        self._read_constant = read_constant
        self.fingerprint = fingerprint
        self.notes = notes

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def node(self, name: str) -> Node:
        """The node called `name`; KeyError when there is none."""
        return self._nodes[name]

    def value(self, name: str) -> Value:
        """The value called `name`; KeyError when there is none."""
        return self._values[name]

    @property
    def values(self) -> Mapping[str, Value]:
        """All values by name."""
        return self._values

    def producer(self, value: str) -> Node:
        """The node that yields `value`."""
        return self._nodes[self._values[value].producer]

    def readers(self, node: Node) -> list[Node]:
        """The nodes that read any output of `node`, in order, without repeats."""
        names = dict.fromkeys(use.node for out in node.outputs for use in self._values[out].uses)
        return [self._nodes[name] for name in names]

    def constant(self, value: str) -> NDArray[Any]:
        """The array behind a constant value, with the shape and element type that its readers see."""
        return np.asarray(self._read_constant(value))

    @property
    def contractions(self) -> list[Node]:
        """Every convolution and matrix product, in topological order."""
        return [node for node in self if node.contraction is not None]
