"""maxdrop: the fastest 8-bit model whose metric falls by no more than you allow.

The names of NNCF's API hold here too: `import maxdrop as nncf` works.
"""

from __future__ import annotations

from maxdrop.api import control_accuracy, predict_cost, quantize, quantize_with_accuracy_control
from maxdrop.data.plan import Candidate, QuantizationPlan
from maxdrop.data.trace import Trace, Trial
from maxdrop.dataset import Dataset
from maxdrop.errors import (
    InternalError,
    MaxdropError,
    MetricError,
    ParameterNotSupportedError,
    PlanError,
    TargetNotReachedError,
    TraceError,
    UnsupportedBackendError,
    UnsupportedModelError,
    ValidationError,
    WorkerError,
)
from maxdrop.options import (
    AdvancedAccuracyRestorerParameters,
    AdvancedBiasCorrectionParameters,
    AdvancedQuantizationParameters,
    AdvancedSmoothQuantParameters,
    DropType,
    ModelType,
    OverflowFix,
    QuantizationMode,
    QuantizationPreset,
    RestoreMode,
    TargetDevice,
)
from maxdrop.result import AccuracyControlResult
from maxdrop.scopes import IgnoredScope, Subgraph
from maxdrop.search.forecast import Forecast
from maxdrop.version import VERSION as __version__

__all__ = [
    "AccuracyControlResult",
    "AdvancedAccuracyRestorerParameters",
    "AdvancedBiasCorrectionParameters",
    "AdvancedQuantizationParameters",
    "AdvancedSmoothQuantParameters",
    "Candidate",
    "Dataset",
    "DropType",
    "Forecast",
    "IgnoredScope",
    "InternalError",
    "MaxdropError",
    "MetricError",
    "ModelType",
    "OverflowFix",
    "ParameterNotSupportedError",
    "PlanError",
    "QuantizationMode",
    "QuantizationPlan",
    "QuantizationPreset",
    "RestoreMode",
    "Subgraph",
    "TargetDevice",
    "TargetNotReachedError",
    "Trace",
    "TraceError",
    "Trial",
    "UnsupportedBackendError",
    "UnsupportedModelError",
    "ValidationError",
    "WorkerError",
    "__version__",
    "control_accuracy",
    "predict_cost",
    "quantize",
    "quantize_with_accuracy_control",
]
