"""How a tensor is quantized, for what target, and what the user wishes."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, Literal

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

    @property
    def label(self) -> str:
        """The same for people."""
        if self.lower is None or self.upper is None:
            return self.name
        ends = (f"{end.aggregator.value} {end.statistic.value}" for end in (self.lower, self.upper))
        return " to ".join(ends)


SmoothQuantAlpha = float | Literal["auto"] | None
"""How much of the spread of the channels moves into the weights: 0..1, chosen by op, or None for not at all."""


class SmoothQuantPolicy(Frozen):
    """SmoothQuant by kind of op."""

    matmul: SmoothQuantAlpha = "auto"
    convolution: SmoothQuantAlpha = "auto"


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


class Form(Frozen):
    """How one activation, and the weights that multiply it, depart from the policy; None follows it.

    Attributes:
        symmetric: see `ActivationPolicy`.
        per_channel: see `ActivationPolicy`; for the readers that take it.
        estimator: see `ActivationPolicy`.
        smooth_quant: strength of SmoothQuant, "auto" for the best one, "off" for none.
        rounding: see `WeightPolicy`.
    """

    symmetric: bool | None = None
    per_channel: bool | None = None
    estimator: EstimatorSpec | None = None
    smooth_quant: float | Literal["auto", "off"] | None = None
    rounding: Literal["nearest", "gptq"] | None = None

    @property
    def text(self) -> str:
        """The same for people."""
        range_of = None if self.estimator is None else self.estimator.label
        parts = (
            None if self.symmetric is None else "symmetric" if self.symmetric else "asymmetric",
            None if self.per_channel is None else "a scale for each channel" if self.per_channel else "one scale",
            None if range_of is None else f"range by {range_of}",
            None if self.smooth_quant is None else f"SmoothQuant {self.smooth_quant}",
            None if self.rounding is None else f"weights rounded by {self.rounding}",
        )
        return ", ".join(part for part in parts if part is not None)


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
        sequential_bias_correction: whether that error is measured in the quantized model.
        smooth_quant: how channels of activations are evened out at the cost of the weights.
        bias_correction_threshold: a relative shift of the output above this is not applied; None for no limit.
        tuned: values that int8 ops read, each with the form in which it was seen to disturb the output less.
        quantize_outputs: whether the model's outputs are quantized too.
        integer_sums: whether residual additions read integers on both sides, where that was measured to pay.
        batchwise_statistics: whether each item of a batch is a sample of its own in the statistics.
        statistics_memory_mb: how many megabytes of sampled rows the statistics may hold.
    """

    target: str = "ANY"
    placement: Placement = "table"
    unprofitable: dict[str, str] = Field(default_factory=dict)
    reduced_range: Literal["all", "first", "none"] = "none"
    activations: ActivationPolicy = ActivationPolicy()
    weights: WeightPolicy = WeightPolicy()
    ignored: dict[str, str] = Field(default_factory=dict)
    bias_correction: bool = True
    bias_correction_threshold: float | None = None
    smooth_quant: SmoothQuantPolicy = SmoothQuantPolicy()
    tuned: dict[str, Form] = Field(default_factory=dict)
    sequential_bias_correction: bool = False
    quantize_outputs: bool = False
    integer_sums: bool = False
    batchwise_statistics: bool = True
    statistics_memory_mb: int = 512

    def at(self, values: Iterable[str]) -> Policy:
        """The policy for one quantizer of these values: with their form, where they have one and the same."""
        if not self.tuned:
            return self
        forms = [self.tuned.get(value) for value in values]
        form = forms[0] if forms and all(f == forms[0] for f in forms) else None
        if form is None:
            return self
        smooth = None if form.smooth_quant == "off" else form.smooth_quant
        smoothing = SmoothQuantPolicy(matmul=smooth, convolution=smooth)
        wishes = {"symmetric": form.symmetric, "per_channel": form.per_channel, "estimator": form.estimator}
        return self.model_copy(
            update={
                "activations": self.activations.model_copy(update=_given(wishes)),
                "smooth_quant": self.smooth_quant if form.smooth_quant is None else smoothing,
                "weights": self.weights.model_copy(update=_given({"rounding": form.rounding})),
            }
        )


def _given(wishes: dict[str, Any]) -> dict[str, Any]:
    return {name: wish for name, wish in wishes.items() if wish is not None}
