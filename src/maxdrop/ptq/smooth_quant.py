"""SmoothQuant: even out the channels of an activation and let the weights absorb the factors.

Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models"
(arXiv 2211.10438), with the strength chosen for each activation by the output error that all its readers together
show on sampled rows. Whether to smooth at all is decided on the rows of other samples.

Nothing is folded into the float model. The factors belong to the two quantizers of an op: the activation is
quantized as x / s and the weight as w * s, so a reader that stays float keeps reading x and multiplying by w.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.graph import Graph, Node, OpKind
from maxdrop.data.spec import Policy, QuantizerSpec, QuantParams
from maxdrop.data.statistics import TensorStatistics
from maxdrop.ptq.numerics import params_from_range
from maxdrop.ptq.output_error import OutputError, Reader
from maxdrop.ptq.placement import PASS_THROUGH

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

ALPHAS = (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
LEAST_ROWS = 32
"""Held-out rows that it takes to tell."""

MOST_ROWS = 256

_SCREENED = slice(1, None, 3)
"""Strengths that are tried first; the error changes little from one to the next."""

_NEAR = 2
"""How far from the best of these the others are tried."""

_HOPELESS = 0.95
"""Share of the error that these may leave at most, or no other is tried."""

_LIMIT = 1e2


class Demand(NamedTuple):
    """What smoothing has to show on rows that it was not fitted on.

    Attributes:
        gain: the largest share of the output's error power that it may leave.
        slack: how much further than on the fitted rows a channel is taken to reach. Those are few, so 1 is hard on
            long tails; the larger it is, the more surprises by channels that were nearly silent go unseen.
    """

    gain: float
    slack: float


MATMUL = Demand(0.8, 1.25)
CONVOLUTION = Demand(0.8, 1.1)
UNFOLDED = Demand(0.3, 1.1)
"""Of a convolution, where the runtime cannot merge the multiplication with arithmetic in front of it."""


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


def demand_of(graph: Graph, value: str, nodes: Sequence[Node]) -> Demand:
    """What smoothing `value`, which `nodes` read, has to show: more where it is not free."""
    if all(node.kind is OpKind.MATMUL for node in nodes):
        return MATMUL
    return UNFOLDED if graph.producer(value).kind in PASS_THROUGH else CONVOLUTION


def _absorbs(node: Node) -> bool:
    contraction = node.contraction
    if contraction is None or contraction.weight_input is None or contraction.groups != 1:
        return False
    return channel_axis(node) in (1, -1)


def channel_axis(node: Node) -> int:
    """The axis of the activation that `node` sums over."""
    return node.contraction.channel_axes[0] if node.contraction else 0


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
    params_of: Callable[[F32 | None], QuantParams],
    alphas: Sequence[float] = ALPHAS,
    demand: Demand = MATMUL,
) -> F32 | None:
    """Factors of the alpha with the least predicted output error; None when they are not clearly better than none.

    Factors and ranges are fitted on the rows of every other sample, and the rows of the rest are asked for the
    error: so a channel that happened to be nearly silent, and is then loud and clipped, speaks against smoothing.
    A single alpha is somebody's wish and not asked for its error.

    Args:
        statistics: of the activation, with C channels.
        readers: every op that would absorb the factors.
        spec: form of the activation's quantizer, per tensor.
        params_of: told the factors, or None for none, says what the activation's scale and zero point will be.
        alphas: strengths to try.
        demand: what smoothing has to show.
    """
    if len(alphas) == 1:
        return factors_for(statistics, readers, alphas[0])
    odd = statistics.row_sample % 2 == 1
    seen, unseen = _of_rows(statistics, ~odd, demand.slack), statistics.rows[odd]
    if len(unseen) < LEAST_ROWS:
        return None
    error = OutputError(unseen[:: -(-len(unseen) // MOST_ROWS)], readers, spec)

    def error_at(alpha: float) -> float:
        factors = factors_for(seen, readers, alpha)
        return error(_unclipped(seen, factors, spec), factors)

    plain = error(_unclipped(seen, np.ones(seen.rows.shape[1], np.float32), spec))
    errors = {alpha: error_at(alpha) for alpha in alphas[_SCREENED]}
    if min(errors.values()) >= _HOPELESS * plain:
        return None
    best_so_far = alphas.index(min(errors, key=errors.__getitem__))
    near = alphas[max(0, best_so_far - _NEAR) : best_so_far + _NEAR + 1]
    errors.update({alpha: error_at(alpha) for alpha in near if alpha not in errors})
    chosen = min(errors, key=errors.__getitem__)
    if errors[chosen] >= demand.gain * plain:
        return None
    best = factors_for(statistics, readers, chosen)
    return best if error(params_of(best), best) < demand.gain * error(params_of(None)) else None


def _of_rows(statistics: TensorStatistics, some: NDArray[np.bool_], slack: float) -> TensorStatistics:
    """What would be known of the channels' extremes from some rows alone."""
    low, high = statistics.rows[some].min(axis=0), statistics.rows[some].max(axis=0)
    return replace(statistics, channel_min=slack * low, channel_max=slack * high)


def _unclipped(statistics: TensorStatistics, factors: F32, spec: QuantizerSpec) -> QuantParams:
    low, high = statistics.channel_min / factors, statistics.channel_max / factors
    return params_from_range(low.min(), high.max(), spec)


def with_factors(params: QuantParams, factors: NDArray[Any]) -> QuantParams:
    """`params` with one factor for each index of the smooth axis."""
    return params.model_copy(update={"factors": tuple(float(f) for f in factors.astype(np.float32))})
