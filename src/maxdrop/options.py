"""What a user may choose. Names, defaults and meanings are NNCF's, so that existing scripts run unchanged."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class _Named(str, Enum):
    """Enum members that are equal to, and print as, their value."""

    def __str__(self) -> str:
        return str(self.value)


class TargetDevice(_Named):
    """What the model will run on."""

    ANY = "ANY"
    CPU = "CPU"
    GPU = "GPU"
    NPU = "NPU"
    CPU_SPR = "CPU_SPR"


class ModelType(_Named):
    """Families of models that are treated specially; None lets the package look."""

    TRANSFORMER = "transformer"


class DropType(_Named):
    """ABSOLUTE: metric lost. RELATIVE: metric lost as a share of the float model's metric."""

    ABSOLUTE = "absolute"
    RELATIVE = "relative"


class QuantizationPreset(_Named):
    """PERFORMANCE: symmetric weights and activations. MIXED: symmetric weights, asymmetric activations."""

    PERFORMANCE = "performance"
    MIXED = "mixed"


class QuantizationMode(_Named):
    """8-bit floating-point modes."""

    FP8_E4M3 = "fp8_e4m3"
    FP8_E5M2 = "fp8_e5m2"


class RestoreMode(_Named):
    """What becomes float when an op is reverted."""

    ACTIVATIONS_AND_WEIGHTS = "activations_and_weights"
    ONLY_ACTIVATIONS = "only_activations"


class OverflowFix(_Named):
    """Which weights use 7 of 8 bits, for processors whose int8 sums saturate at 16 bits."""

    ENABLE = "enable"
    FIRST_LAYER = "first_layer_only"
    DISABLE = "disable"


class QuantizationScheme(_Named):
    """Whether the zero point is fixed at 0 or free."""

    SYMMETRIC = "symmetric"
    ASYMMETRIC = "asymmetric"


class FP8Type(_Named):
    """8-bit floating-point formats."""

    E4M3 = "f8e4m3"
    E5M2 = "f8e5m2"


class QuantizerPropagationRule(_Named):
    """How quantizers of branches are merged."""

    DO_NOT_MERGE_BRANCHES = "DO_NOT_MERGE_BRANCHES"
    MERGE_IF_ALL_BRANCHES_SAME = "MERGE_IF_ALL_BRANCHES_SAME"
    MERGE_WITH_POTENTIAL_REQUANTIZATION = "MERGE_WITH_POTENTIAL_REQUANTIZATION"
    MERGE_ALL_IN_ONE = "MERGE_ALL_IN_ONE"


class StatisticsType(_Named):
    """A number taken from each sample."""

    MAX = "max"
    MIN = "min"
    ABS_MAX = "abs_max"
    QUANTILE = "quantile"
    ABS_QUANTILE = "abs_quantile"
    MEAN = "mean"
    RAW = "raw"


class AggregatorType(_Named):
    """How the numbers of all samples become one."""

    MEAN = "mean"
    MAX = "max"
    MIN = "min"
    MEDIAN = "median"
    MEAN_NO_OUTLIERS = "mean_no_outliers"
    MEDIAN_NO_OUTLIERS = "median_no_outliers"
    HISTOGRAM = "histogram"


@dataclass
class StatisticsCollectorParameters:
    """How one end of a range is found; None keeps the default."""

    statistics_type: StatisticsType | None = None
    aggregator_type: AggregatorType | None = None
    clipping_value: float | None = None
    quantile_outlier_prob: float = 1e-4


@dataclass
class RangeEstimatorParameters:
    """How both ends of a range are found."""

    min: StatisticsCollectorParameters = field(default_factory=StatisticsCollectorParameters)
    max: StatisticsCollectorParameters = field(default_factory=StatisticsCollectorParameters)


def _both(low: StatisticsType, high: StatisticsType, aggregators: tuple[AggregatorType, AggregatorType]) -> Any:
    return RangeEstimatorParameters(
        StatisticsCollectorParameters(low, aggregators[0]),
        StatisticsCollectorParameters(high, aggregators[1]),
    )


class RangeEstimatorParametersSet:
    """Ready-made range estimators."""

    MINMAX: RangeEstimatorParameters = _both(
        StatisticsType.MIN, StatisticsType.MAX, (AggregatorType.MIN, AggregatorType.MAX)
    )
    MEAN_MINMAX: RangeEstimatorParameters = _both(StatisticsType.MIN, StatisticsType.MAX, (AggregatorType.MEAN,) * 2)
    MEDIAN_MINMAX: RangeEstimatorParameters = _both(
        StatisticsType.MIN, StatisticsType.MAX, (AggregatorType.MEDIAN,) * 2
    )
    MEAN_NO_OUTLIERS_MINMAX: RangeEstimatorParameters = _both(
        StatisticsType.MIN, StatisticsType.MAX, (AggregatorType.MEAN_NO_OUTLIERS,) * 2
    )
    MEAN_QUANTILE: RangeEstimatorParameters = _both(
        StatisticsType.QUANTILE, StatisticsType.QUANTILE, (AggregatorType.MEAN,) * 2
    )
    HISTOGRAM: RangeEstimatorParameters = _both(StatisticsType.RAW, StatisticsType.RAW, (AggregatorType.HISTOGRAM,) * 2)


@dataclass
class QuantizationParameters:
    """The form of quantizers; None keeps the default."""

    num_bits: int | None = None
    mode: QuantizationScheme | None = None
    signedness_to_force: bool | None = None
    per_channel: bool | None = None
    narrow_range: bool | None = None


@dataclass
class FP8QuantizationParameters:
    """The form of FP8 quantizers."""

    destination_type: FP8Type | None = None


@dataclass
class AdvancedBiasCorrectionParameters:
    """Bias correction: for ops without a bias too, and above which relative shift it is not applied."""

    apply_for_all_nodes: bool = False
    threshold: float | None = None


@dataclass
class AdvancedSmoothQuantParameters:
    """SmoothQuant strengths from 0 to 1; None switches it off, and the defaults mean chosen by op.

    A negative `matmul` switches it off too, and with it convolutions that are at their default.
    """

    convolution: float | None = -1
    matmul: float | None = 0.95


@dataclass
class AdvancedQuantizationParameters:
    """Fine control over `quantize`."""

    overflow_fix: OverflowFix | None = None
    quantize_outputs: bool = False
    inplace_statistics: bool = True
    disable_channel_alignment: bool = True
    disable_bias_correction: bool = False
    batchwise_statistics: bool | None = None
    activations_quantization_params: QuantizationParameters | FP8QuantizationParameters | None = None
    weights_quantization_params: QuantizationParameters | FP8QuantizationParameters | None = None
    quantizer_propagation_rule: QuantizerPropagationRule = QuantizerPropagationRule.MERGE_ALL_IN_ONE
    activations_range_estimator_params: RangeEstimatorParameters = field(default_factory=RangeEstimatorParameters)
    weights_range_estimator_params: RangeEstimatorParameters = field(default_factory=RangeEstimatorParameters)
    bias_correction_params: AdvancedBiasCorrectionParameters = field(default_factory=AdvancedBiasCorrectionParameters)
    smooth_quant_alphas: AdvancedSmoothQuantParameters = field(default_factory=AdvancedSmoothQuantParameters)
    smooth_quant_alpha: float | None = None
    backend_params: dict[str, Any] = field(default_factory=dict)


@dataclass
class AdvancedAccuracyRestorerParameters:
    """Fine control over accuracy control.

    Attributes:
        max_num_iterations: most validations of candidates after the fully quantized model.
        tune_hyperparams: tune the parameters of quantization before the search, by the outputs for calibration
            samples: presets for the whole model, then the most sensitive ops. What the user has set stays as it is.
        ranking_subset_size: most samples that rank the ops; None takes the few that suffice.
        num_ranking_workers: accepted for compatibility; `executor` of `control_accuracy` shares the ranking out.
        intermediate_model_dir: folder for the fully quantized model.
        restore_mode: what becomes float when an op is reverted.
    """

    max_num_iterations: int = sys.maxsize
    tune_hyperparams: bool = False
    ranking_subset_size: int | None = None
    num_ranking_workers: int | None = None
    intermediate_model_dir: str | None = None
    restore_mode: RestoreMode = RestoreMode.ACTIVATIONS_AND_WEIGHTS
