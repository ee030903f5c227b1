"""Bias correction: give back the mean of an op's output that quantization shifts.

Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction" (arXiv 1906.04721), with the
mean of the quantized activation instead of the float one, so that clipping is compensated too. Closed form from the
statistics: no further inference. Borders padded with zeros are treated like the interior.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.graph import Contraction
from maxdrop.data.plan import Quantizer
from maxdrop.data.spec import QuantizerSpec, QuantParams
from maxdrop.data.statistics import TensorStatistics
from maxdrop.ptq.numerics import fake_quantize
from maxdrop.ptq.weights import canonical, channel_sums

F32 = NDArray[np.float32]


def quantized_channel_mean(
    statistics: TensorStatistics, spec: QuantizerSpec, params: QuantParams
) -> NDArray[np.float64]:
    """Mean of each channel after quantization, float64 (C,).

    The exact mean plus the shift seen on the sampled rows: the rows' own sampling error cancels.
    """
    rows = statistics.rows
    flat = spec.model_copy(update={"axes": (1,)}) if spec.axes else spec
    shift = (fake_quantize(rows, params, flat) - rows).mean(axis=0, dtype=np.float64)
    return np.asarray(statistics.channel_mean.astype(np.float64) + shift)


def bias_shift(
    weight: NDArray[Any],
    quantized_weight: NDArray[Any],
    contraction: Contraction,
    mean: NDArray[Any],
    quantized_mean: NDArray[Any],
) -> F32:
    """What to add to each output channel, float32 (output channels,).

    Args:
        weight: float weight in its native layout.
        quantized_weight: the same after quantizing and dequantizing.
        contraction: of the op.
        mean: mean of each input channel, (C,).
        quantized_mean: the same after quantization.
    """
    sums, quantized = channel_sums(weight, contraction), channel_sums(quantized_weight, contraction)
    groups = sums.shape[0]
    before = np.einsum("goi,gi->go", sums, mean.reshape(groups, -1))
    after = np.einsum("goi,gi->go", quantized, quantized_mean.reshape(groups, -1))
    return np.asarray((before - after).ravel(), np.float32)


def closed_form_shift(
    weight: NDArray[Any],
    quantized_weight: NDArray[Any],
    contraction: Contraction,
    statistics: TensorStatistics,
    activation: Quantizer,
) -> F32 | None:
    """`bias_shift` for the quantizer of an op's input; None where the statistics do not say, or are not finite.

    Args:
        weight: float weight in its native layout.
        quantized_weight: the same after quantizing and dequantizing.
        contraction: of the op.
        statistics: of the op's input.
        activation: quantizer of the op's input.
    """
    if statistics.channel_mean.size != weight.shape[contraction.weight_channel_axis] * contraction.groups:
        return None
    after = quantized_channel_mean(statistics, activation.spec, activation.params)
    shift = bias_shift(weight, quantized_weight, contraction, statistics.channel_mean, after)
    return shift if np.isfinite(shift).all() else None


def relative_shift(shift: F32, weight: NDArray[Any], contraction: Contraction, statistics: TensorStatistics) -> float:
    """The largest shift in units of its output channel's root mean square, as the sampled rows predict that.

    Args:
        shift: float32 (output channels,).
        weight: float weight in its native layout.
        contraction: of the op.
        statistics: of the op's input.
    """
    power = np.square(canonical(weight, contraction), dtype=np.float64).sum(axis=3)
    inputs = np.square(statistics.rows, dtype=np.float64).mean(axis=0).reshape(power.shape[0], -1)
    outputs = np.sqrt(np.einsum("goi,gi->go", power, inputs)).ravel()
    tiny = float(np.finfo(np.float32).tiny)
    return float((np.abs(shift) / np.maximum(outputs, tiny)).max())
