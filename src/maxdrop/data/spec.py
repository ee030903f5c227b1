"""How a tensor is quantized, for what target, and what the user wishes."""

from __future__ import annotations

from enum import Enum
from typing import Literal

from pydantic import Field

from maxdrop.data.schema import Frozen

Placement = Literal["table", "all", "measured"]


class Precision(str, Enum):
    """What a candidate may ask for an op."""

    INT8 = "int8"
    INT8_WEIGHTS = "int8_weights"
    FLOAT = "float"


class QuantizerSpec(Frozen):
    """The form of a quantizer, without its numbers.

    Attributes:
        dtype: integer type of the quantized tensor.
        symmetric: True fixes the zero point at 0.
        axes: axes that keep parameters of their own; empty for one scale for the whole tensor.
        narrow_range: leaves out the lowest code, so that int8 spans -127..127.
        reduced_range: uses 7 of 8 bits, for targets whose 16-bit sums would saturate.
        smooth_axis: axis whose indices have a factor each, None without such factors. They occur in pairs: the
            factors of the weights are the inverse of those of the activation, so that their product holds none.
    """

    dtype: Literal["int8", "uint8"]
    symmetric: bool = True
    axes: tuple[int, ...] = ()
    narrow_range: bool = False
    reduced_range: bool = False
    smooth_axis: int | None = None

    @property
    def quant_min(self) -> int:
        """Smallest code, inclusive."""
        if self.dtype == "uint8":
            return 0
        low = -64 if self.reduced_range else -128
        return low + 1 if self.narrow_range else low

    @property
    def quant_max(self) -> int:
        """Largest code, inclusive."""
        full = 127 if self.dtype == "int8" else 255
        return full // 2 if self.reduced_range else full


class QuantParams(Frozen):
    """Numbers of a quantizer: one entry, or one for each index of the kept axes in C order.

    `factors` has one entry for each index of the smooth axis.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    factors: tuple[float, ...] = ()


class StatisticKind(str, Enum):
    """A number taken from one sample of a tensor."""

    MIN = "min"
    MAX = "max"
    ABS_MAX = "abs_max"
    QUANTILE = "quantile"
    ABS_QUANTILE = "abs_quantile"
    MEAN = "mean"


class AggregatorKind(str, Enum):
    """How the numbers of many samples become one."""

    MIN = "min"
    MAX = "max"
    MEAN = "mean"
    MEDIAN = "median"
    MEAN_NO_OUTLIERS = "mean_no_outliers"
    MEDIAN_NO_OUTLIERS = "median_no_outliers"


class BoundSpec(Frozen):
    """How one end of a range is found."""

    statistic: StatisticKind
    aggregator: AggregatorKind
    clipping_value: float | None = None
    outlier_prob: float = 1e-4


class EstimatorSpec(Frozen):
    """A range estimator by name; `lower` and `upper` belong to the estimator "bounds"."""

    name: str
    lower: BoundSpec | None = None
    upper: BoundSpec | None = None


SmoothQuantAlpha = float | Literal["auto"] | None
"""How much of the spread of the channels moves into the weights: 0..1, chosen by op, or None for not at all."""


class SmoothQuantPolicy(Frozen):
    """SmoothQuant by kind of op."""

    matmul: SmoothQuantAlpha = "auto"
    convolution: SmoothQuantAlpha = None


class ActivationPolicy(Frozen):
    """What the user wishes for activations; None leaves the choice to the package."""

    symmetric: bool | None = None
    signed: bool | None = None
    per_channel: bool | None = None
    narrow_range: bool = False
    estimator: EstimatorSpec = EstimatorSpec(name="auto")


class WeightPolicy(Frozen):
    """What the user wishes for weights."""

    per_channel: bool = True
    narrow_range: bool = True
    estimator: EstimatorSpec = EstimatorSpec(name="minmax")
    rounding: Literal["nearest", "gptq"] = "nearest"


class Policy(Frozen):
    """Everything about a plan that does not depend on the data: resolved wishes, JSON-able.

    Attributes:
        target: row of the target table (`maxdrop.ptq.targets`).
        placement: "table" quantizes what the target table says pays; "all" whatever can run in int8; "measured"
            whatever can, large enough to be worth measuring, but for the `unprofitable` ops.
        unprofitable: ops on which int8 was measured not to pay, each with what was measured.
        reduced_range: which weights use 7 bits: all, those of the first layers, or none.
        ignored: ops that the user's ignored scope matched, each with the rule that matched.
        bias_correction: whether biases absorb the mean quantization error.
        smooth_quant: how channels of activations are evened out at the cost of the weights.
        bias_correction_threshold: a relative shift of the output above this is not applied; None for no limit.
    """

    target: str = "ANY"
    placement: Placement = "table"
    unprofitable: dict[str, str] = Field(default_factory=dict)
    transformer: bool = False
    reduced_range: Literal["all", "first", "none"] = "none"
    activations: ActivationPolicy = ActivationPolicy()
    weights: WeightPolicy = WeightPolicy()
    ignored: dict[str, str] = Field(default_factory=dict)
    bias_correction: bool = True
    bias_correction_threshold: float | None = None
    smooth_quant: SmoothQuantPolicy = SmoothQuantPolicy()
