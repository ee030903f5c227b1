"""What quantizing an activation costs at the outputs of the ops that read it, predicted on sampled rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.graph import Graph, Node
from maxdrop.data.spec import QuantizerSpec, QuantParams
from maxdrop.errors import InternalError
from maxdrop.ptq.numerics import fake_quantize, params_from_range
from maxdrop.ptq.weights import canonical

F32 = NDArray[np.float32]

MOST_COLUMNS = 128
"""Outputs times kernel positions that the error of a reader is predicted for,"""

LEAST_OUTPUTS = 32
"""but not fewer outputs than this."""


@dataclass(frozen=True)
class Reader:
    """A product that reads the activation.

    Attributes:
        weight: float32 (C, outputs, kernel positions); of some of its outputs, for they are alike.
        reach: float32 (C,): largest magnitude of each input channel over all outputs.
        per_channel: whether each output has a scale of its own.
        narrow_range, reduced_range: of the weight's quantizer.
    """

    weight: F32
    reach: F32
    per_channel: bool
    narrow_range: bool
    reduced_range: bool


def reader_of(graph: Graph, node: Node, spec: QuantizerSpec) -> Reader:
    """What `node` multiplies the activation by, and how that is quantized."""
    contraction = node.contraction
    if contraction is None or contraction.weight_input is None:
        message = f"{node.name} has no weight"
        raise InternalError(message)
    weight = canonical(graph.constant(node.inputs[contraction.weight_input]), contraction)[0]
    reach = np.abs(weight).max(axis=(0, 2)).astype(np.float32)
    most = max(LEAST_OUTPUTS, MOST_COLUMNS // weight.shape[2])
    some = weight[:: -(-len(weight) // most)]
    ordered = np.ascontiguousarray(some.transpose(1, 0, 2), np.float32)
    return Reader(ordered, reach, bool(spec.axes), spec.narrow_range, spec.reduced_range)


class OutputError:
    """Error of the outputs of all readers on some rows.

    Args:
        rows: float32 (r, C): positions of the activation with all their channels.
        readers: the ops that read it.
        spec: form of the activation's quantizer, per tensor and without factors.
    """

    def __init__(self, rows: F32, readers: Sequence[Reader], spec: QuantizerSpec) -> None:
        self._rows, self._readers, self._spec = rows, readers, spec
        self._exact = [rows @ _columns(reader.weight) for reader in readers]

    def __call__(self, params: QuantParams, factors: F32 | None = None) -> float:
        """Share of the outputs' power that the error takes, summed over the readers.

        The mean of each output's error is left out, as bias correction removes it.

        Args:
            params: scale and zero point of the activation, after it was divided by the factors.
            factors: float32 (C,), what the weights are multiplied by in turn; None for 1.
        """
        factors = np.ones(self._rows.shape[1], np.float32) if factors is None else factors
        quantized = fake_quantize(self._rows / factors, params, self._spec)
        return sum(_noise(quantized, r, factors, y) for r, y in zip(self._readers, self._exact, strict=True))


def _noise(quantized: F32, reader: Reader, factors: F32, exact: F32) -> float:
    difference = quantized @ _columns(_quantized_weight(reader, factors)) - exact
    power = float(np.square(exact, dtype=np.float64).sum())
    noise = float(np.square(difference - difference.mean(axis=0), dtype=np.float64).sum())
    return noise / power if power > 0.0 else 0.0


def _columns(weight: F32) -> F32:
    """Kernel positions as outputs of their own: what they share is noise that does not add up."""
    return weight.reshape(len(weight), -1)


def _quantized_weight(reader: Reader, factors: F32) -> F32:
    weight = reader.weight * factors[:, None, None]
    axes, reduced = ((1,), (0, 2)) if reader.per_channel else ((), (0, 1, 2))
    spec = QuantizerSpec(dtype="int8", axes=axes, narrow_range=reader.narrow_range, reduced_range=reader.reduced_range)
    params = params_from_range(weight.min(axis=reduced), weight.max(axis=reduced), spec)
    return fake_quantize(weight, params, spec)
