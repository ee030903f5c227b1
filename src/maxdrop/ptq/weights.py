"""Weights of convolutions and matrix products in one common form."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.graph import Contraction, Node
from maxdrop.data.spec import EstimatorSpec, QuantizerSpec, QuantParams, WeightPolicy
from maxdrop.ptq.numerics import params_from_range
from maxdrop.ptq.weight_range import weight_range

MINMAX = EstimatorSpec(name="minmax")


def canonical(weight: NDArray[Any], contraction: Contraction) -> NDArray[Any]:
    """`weight` as (groups, output channels of a group, input channels of a group, kernel positions)."""
    front = [*contraction.weight_axes, contraction.weight_channel_axis]
    rest = [axis for axis in range(weight.ndim) if axis not in front]
    ordered = weight.transpose([*front, *rest])
    if len(contraction.weight_axes) == 1:
        ordered = ordered[None]
    return ordered.reshape(*ordered.shape[:3], -1)


def weight_spec(node: Node, policy: WeightPolicy, reduced: bool) -> QuantizerSpec:
    """Symmetric int8, by output channel unless the user wants one scale: all that the int8 kernels take."""
    axes = node.contraction.weight_axes if node.contraction and policy.per_channel else ()
    narrow = policy.narrow_range
    return QuantizerSpec(dtype="int8", axes=axes, narrow_range=narrow, reduced_range=reduced)


def weight_params(weight: NDArray[Any], spec: QuantizerSpec, estimator: EstimatorSpec = MINMAX) -> QuantParams:
    """Min-max parameters unless the user wishes others: clipping costs more than its finer step gains at 8 bits."""
    return params_from_range(*weight_range(weight, spec, estimator), spec)


def scaled_inputs(weight: NDArray[Any], factors: NDArray[Any], contraction: Contraction) -> NDArray[Any]:
    """`weight` with each input channel multiplied by its factor; of dense contractions only."""
    shape = [-1 if axis == contraction.weight_channel_axis else 1 for axis in range(weight.ndim)]
    return np.asarray(weight * factors.reshape(shape))


def channel_sums(weight: NDArray[Any], contraction: Contraction) -> NDArray[np.float64]:
    """Sums over kernel positions, float64 (groups, outputs of a group, inputs of a group)."""
    return np.asarray(canonical(weight, contraction).sum(axis=3, dtype=np.float64))


def channel_power(weight: NDArray[Any], contraction: Contraction) -> NDArray[np.float64]:
    """Sum of squares of everything that multiplies each input channel, float64 (C,)."""
    return np.asarray(np.square(canonical(weight, contraction), dtype=np.float64).sum(axis=(1, 3)).ravel())
