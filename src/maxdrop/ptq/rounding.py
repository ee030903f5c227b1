"""Rounding of weights that lets later channels make up for the error of earlier ones.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (arXiv
2210.17323), from the sampled rows of the input: no gradients and no further inference. For matrix products and
convolutions with one kernel position.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.graph import Contraction
from maxdrop.data.spec import QuantizerSpec, QuantParams
from maxdrop.data.statistics import TensorStatistics
from maxdrop.ptq.numerics import fake_quantize
from maxdrop.ptq.weights import canonical

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

DAMPING = 0.01
GAIN = 0.9
"""On rows that it did not see, the new rounding must leave at most this share of the error power of the nearest."""

HELD_OUT = slice(4, None, 5)
"""The rows that it does not see."""

MOST_CHANNELS = 2048
ROWS_PER_CHANNEL = 1.0
"""With fewer rows than this for each channel the input's correlations are not known well enough."""


def rounded_weight(
    weight: NDArray[Any],
    contraction: Contraction,
    statistics: TensorStatistics,
    activation: tuple[QuantizerSpec, QuantParams],
    stored: tuple[QuantizerSpec, QuantParams],
) -> NDArray[np.int8] | None:
    """Codes for a weight in its native layout; None for those where nearest ones are as good or all there are.

    Args:
        weight: float weight in its native layout.
        contraction: of the op.
        statistics: of the op's input.
        activation: quantizer of the op's input; the rows are taken as it leaves them.
        stored: quantizer of the weight.
    """
    canon = canonical(weight, contraction)
    if canon.shape[0] != 1 or canon.shape[3] != 1 or canon.shape[2] != statistics.rows.shape[1] or activation[0].axes:
        return None
    (spec, params), rows = stored, fake_quantize(statistics.rows, activation[1], activation[0])
    table = canon[0, :, :, 0].astype(np.float32)
    if params.factors:
        inverse = np.asarray(params.factors, np.float32)
        table, rows = table / inverse, rows * inverse
    codes = round_codes(table, np.asarray(params.scale), rows, spec)
    if codes is None:
        return None
    outputs_first = contraction.weight_axes[0] < contraction.weight_channel_axis
    return np.ascontiguousarray((codes if outputs_first else codes.T).reshape(weight.shape))


def round_codes(weight: NDArray[Any], scale: NDArray[Any], rows: F32, spec: QuantizerSpec) -> NDArray[np.int8] | None:
    """Codes of `weight`, int8 (outputs, C); None when they are not clearly better than the nearest ones.

    Args:
        weight: float (outputs, C).
        scale: (outputs,) or (1,), of the weight's quantizer.
        rows: float32 (r, C): a sample of the input as the op reads it.
        spec: of the weight's quantizer; its bounds hold for the codes.
    """
    channels = weight.shape[1]
    if channels > MOST_CHANNELS or len(rows) < ROWS_PER_CHANNEL * channels:
        return None
    steps = np.asarray(scale, np.float64).reshape(-1, 1)
    target = weight / steps
    held_out = np.zeros(len(rows), bool)
    held_out[HELD_OUT] = True
    moments = _second_moments(rows[~held_out])
    codes = _gptq(target, moments, spec)
    nearest = np.clip(np.rint(target), spec.quant_min, spec.quant_max)
    check = _second_moments(rows[held_out])
    before, after = (_error(each - target, check, steps) for each in (nearest, codes))
    return codes.astype(np.int8) if after < GAIN * before else None


def _second_moments(rows: F32) -> F64:
    x = rows.astype(np.float64)
    return np.asarray(x.T @ x / len(x))


def _error(difference: F64, moments: F64, steps: F64) -> float:
    scaled = difference * steps
    return float(np.sum((scaled @ moments) * scaled))


def _gptq(target: F64, moments: F64, spec: QuantizerSpec) -> F64:
    """Rounds one channel after another, the strongest first, and spreads each error over the channels left."""
    damped = moments + DAMPING * max(float(np.mean(np.diag(moments))), 1e-30) * np.eye(len(moments))
    order = np.argsort(-np.diag(damped), kind="stable")
    spread = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    left = target[:, order].copy()
    codes = np.empty_like(left)
    for start in range(0, left.shape[1], _BLOCK):
        end = min(start + _BLOCK, left.shape[1])
        errors = np.empty((len(left), end - start))
        for j in range(start, end):
            codes[:, j] = np.clip(np.rint(left[:, j]), spec.quant_min, spec.quant_max)
            errors[:, j - start] = (left[:, j] - codes[:, j]) / spread[j, j]
            left[:, j + 1 : end] -= np.outer(errors[:, j - start], spread[j, j + 1 : end])
        left[:, end:] -= errors @ spread[start:end, end:]
    result = np.empty_like(codes)
    result[:, order] = codes
    return result


_BLOCK = 64
