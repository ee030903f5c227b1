"""How OpenVINO performs the edits of a plan that are neither quantizers nor shifts of a bias."""

from __future__ import annotations

from typing import Any

import numpy as np
from openvino import opset13 as opset

from maxdrop.data.plan import QuantizationPlan, Quantizer


def absorbing_ops(plan: QuantizationPlan) -> set[str]:
    """Ops whose activation and weight hold inverse factors, which may then be left out of both."""
    weights = {use.node for q in plan.quantizers if q.constant and q.params.factors for use in q.serves}
    smoothed = [q for q in plan.quantizers if not q.constant and q.params.factors]
    whole = [q for q in smoothed if all(use.node in weights for use in q.serves)]
    return {use.node for q in whole for use in q.serves}


def divided_by_factors(source: Any, quantizer: Quantizer, name: str) -> Any:
    """`source` (float32) divided by the factors of a smoothing quantizer; `source` itself without such factors.

    The runtime merges the multiplication with the quantizer behind it, or with a scaling in front of it.
    """
    return _multiplied(source, quantizer, -1, f"{name}/smooth")


def multiplied_by_factors(source: Any, quantizer: Quantizer, name: str) -> Any:
    """The inverse of `divided_by_factors`, for readers whose weights did not absorb the factors."""
    return _multiplied(source, quantizer, 1, f"{name}/unsmooth")


def _multiplied(source: Any, quantizer: Quantizer, power: int, name: str) -> Any:
    axis = quantizer.spec.smooth_axis
    if axis is None:
        return source
    rank = source.get_partial_shape().rank.get_length()
    shape = [-1 if i == axis % rank else 1 for i in range(rank)]
    factors = np.asarray(quantizer.params.factors, np.float64) ** power
    constant = opset.constant(factors.astype(np.float32).reshape(shape))
    constant.set_friendly_name(f"{name}/factors")
    node = opset.multiply(source, constant)
    node.set_friendly_name(name)
    return node.output(0)
