"""SmoothQuant: even out the channels of an activation and let the weights absorb the factors.

Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models"
(arXiv 2211.10438), with the strength chosen for each activation by the output error that all its readers together
show on the sampled rows; not to smooth at all is one of the choices.

Nothing is folded into the float model. The factors belong to the two quantizers of an op: the activation is
quantized as x / s and the weight as w * s, so a reader that stays float keeps reading x and multiplying by w.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.graph import Graph, Node, OpKind
from maxdrop.data.spec import Policy, QuantizerSpec, QuantParams
from maxdrop.data.statistics import TensorStatistics
from maxdrop.errors import InternalError
from maxdrop.ptq.numerics import fake_quantize, params_from_range
from maxdrop.ptq.weights import canonical

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

ALPHAS = (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
GAIN = 0.8
"""Smoothing must leave at most this share of the output's error power, or it is not worth its multiplication."""

CONVOLUTION_GAIN = 0.3
"""The same for convolutions: one pixel says less of what the whole kernel's error is."""

MOST_ROWS = 256
MOST_OUTPUTS = 128
_LIMIT = 1e2


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


def alphas_of(nodes: Sequence[Node], policy: Policy) -> tuple[float, ...]:
    """The strengths to try for an activation that `nodes` read; empty where one of them cannot absorb factors."""
    wishes = {
        policy.smooth_quant.matmul if node.kind is OpKind.MATMUL else policy.smooth_quant.convolution for node in nodes
    }
    if len(wishes) != 1 or not all(_absorbs(node) for node in nodes) or len({channel_axis(n) for n in nodes}) != 1:
        return ()
    wish = wishes.pop()
    if wish is None:
        return ()
    return ALPHAS if wish == "auto" else (wish,)


def _absorbs(node: Node) -> bool:
    contraction = node.contraction
    if contraction is None or contraction.weight_input is None or contraction.groups != 1:
        return False
    return channel_axis(node) in (1, -1)


def channel_axis(node: Node) -> int:
    """The axis of the activation that `node` sums over."""
    return node.contraction.channel_axes[0] if node.contraction else 0


def reader_of(graph: Graph, node: Node, spec: QuantizerSpec) -> Reader:
    """What `node` multiplies the activation by, and how that is quantized."""
    contraction = node.contraction
    if contraction is None or contraction.weight_input is None:
        message = f"{node.name} has no weight"
        raise InternalError(message)
    weight = canonical(graph.constant(node.inputs[contraction.weight_input]), contraction)[0]
    reach = np.abs(weight).max(axis=(0, 2)).astype(np.float32)
    some = weight[:: -(-len(weight) // MOST_OUTPUTS)]
    ordered = np.ascontiguousarray(some.transpose(1, 0, 2), np.float32)
    return Reader(ordered, reach, bool(spec.axes), spec.narrow_range, spec.reduced_range)


def smoothed_statistics(statistics: TensorStatistics, factors: F32) -> TensorStatistics:
    """Statistics of x / factors, float32 (C,) with every factor above zero.

    Exact but for the extremes of single samples, which keep their ratio to the overall ones.
    """
    low, high = statistics.channel_min / factors, statistics.channel_max / factors
    return replace(
        statistics,
        sample_min=_rescaled(statistics.sample_min, float(statistics.sample_min.min()), float(low.min())),
        sample_max=_rescaled(statistics.sample_max, float(statistics.sample_max.max()), float(high.max())),
        channel_min=low,
        channel_max=high,
        channel_mean=statistics.channel_mean / factors,
        rows=statistics.rows / factors,
    )


def _rescaled(samples: F32, extreme: float, wanted: float) -> F32:
    if extreme == 0.0 or np.sign(extreme) != np.sign(wanted):
        return np.full_like(samples, wanted)
    return np.asarray(samples * np.float32(wanted / extreme), np.float32)


def factors_for(statistics: TensorStatistics, readers: Sequence[Reader], alpha: float) -> F32:
    """s_c = max|x_c|^alpha / max|w_c|^(1 - alpha), with geometric mean 1, float32 (C,)."""
    reach = np.maximum(-statistics.channel_min, statistics.channel_max).astype(np.float64)
    weight = np.max([reader.reach for reader in readers], axis=0).astype(np.float64)
    alive = (reach > 0.0) & (weight > 0.0)
    factors = np.ones_like(reach)
    if not alive.any():
        return factors.astype(np.float32)
    raw = np.log(reach[alive]) * alpha - np.log(weight[alive]) * (1.0 - alpha)
    factors[alive] = np.clip(np.exp(raw - raw.mean()), 1.0 / _LIMIT, _LIMIT)
    return factors.astype(np.float32)


def choose_factors(
    statistics: TensorStatistics,
    readers: Sequence[Reader],
    spec: QuantizerSpec,
    alphas: Sequence[float] = ALPHAS,
    gain: float = GAIN,
) -> F32 | None:
    """Factors of the alpha with the least predicted output error; None when none is clearly better than none.

    A single alpha is somebody's wish and not asked for its error.

    Args:
        statistics: of the activation, with C channels.
        readers: every op that would absorb the factors.
        spec: form of the activation's quantizer, per tensor.
        alphas: strengths to try.
        gain: the largest share of the error without smoothing that is worth it.
    """
    if len(alphas) == 1:
        return factors_for(statistics, readers, alphas[0])
    rows = statistics.rows[:: -(-len(statistics.rows) // MOST_ROWS)]
    exact = [rows @ _columns(reader.weight) for reader in readers]

    def error(factors: F32) -> float:
        low, high = statistics.channel_min / factors, statistics.channel_max / factors
        params = params_from_range(low.min(), high.max(), spec)
        quantized = fake_quantize(rows / factors, params, spec)
        parts = zip(readers, exact, strict=True)
        return sum(_output_error(quantized, reader, factors, y) for reader, y in parts)

    plain = error(np.ones(rows.shape[1], np.float32))
    tried = [factors_for(statistics, readers, alpha) for alpha in alphas]
    errors = [error(factors) for factors in tried]
    best = int(np.argmin(errors))
    return tried[best] if errors[best] < gain * plain else None


def _output_error(quantized: F32, reader: Reader, factors: F32, exact: F32) -> float:
    """Share of the output's power that the error takes; its mean is left out, as bias correction removes it."""
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


def with_factors(params: QuantParams, factors: NDArray[Any]) -> QuantParams:
    """`params` with one factor for each index of the smooth axis."""
    return params.model_copy(update={"factors": tuple(float(f) for f in factors.astype(np.float32))})
