"""What a search is asked for, and how that is told to the phases."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxdrop.control import ControlOptions
from maxdrop.data.spec import Placement
from maxdrop.errors import ValidationError
from maxdrop.executors.choice import ExecutorName
from maxdrop.options import (
    AdvancedAccuracyRestorerParameters,
    AdvancedQuantizationParameters,
    DropType,
    ModelType,
    QuantizationPreset,
    TargetDevice,
)
from maxdrop.resolve import QuantizeOptions
from maxdrop.scopes import IgnoredScope
from maxdrop.search.gain import Objective
from maxdrop.search.limits import make_limits


@dataclass(frozen=True)
class ControlArguments:
    """All keyword arguments of `maxdrop.control_accuracy`, by the same names and as the user gave them; see there."""

    max_drop: float | Mapping[str, float]
    drop_type: DropType
    higher_is_better: bool | Mapping[str, bool]
    min_metric: float | Mapping[str, float] | None
    confidence: float | None
    holdout: float
    preset: QuantizationPreset | None
    target_device: TargetDevice
    subset_size: int
    fast_bias_correction: bool
    model_type: ModelType | None
    ignored_scope: IgnoredScope | None
    advanced_quantization_parameters: AdvancedQuantizationParameters | None
    advanced_accuracy_restorer_parameters: AdvancedAccuracyRestorerParameters | None
    placement: Placement | None
    objective: Objective
    compile_config: Mapping[str, Any] | None
    max_validations: int | None
    time_budget: float | None
    strategy: str
    seed: int
    executor: ExecutorName
    workers: int | None
    output_dir: str | Path | None
    allow_slower: bool
    strict: bool
    progress: bool | None

    def quantize_options(self) -> QuantizeOptions:
        """What quantization is told."""
        return QuantizeOptions(
            preset=self.preset,
            target_device=self.target_device,
            subset_size=self.subset_size,
            fast_bias_correction=self.fast_bias_correction,
            model_type=self.model_type,
            ignored_scope=self.ignored_scope,
            advanced=self.advanced_quantization_parameters,
            placement=self.placement or ("all" if self.objective == "size" else "measured"),
        )

    def control_options(self) -> ControlOptions:
        """What the search is told; the time budget begins now.

        Raises:
            ValidationError: a limit or the time budget is wrong.
        """
        return ControlOptions(
            limit=make_limits(
                self.max_drop,
                DropType(self.drop_type).value,
                self.higher_is_better,
                self.min_metric,
                self.confidence,
                self.seed,
            ),
            restorer=self.advanced_accuracy_restorer_parameters or AdvancedAccuracyRestorerParameters(),
            compile_config=dict(self.compile_config or {}),
            deadline=self._deadline(),
            output_dir=None if self.output_dir is None else Path(self.output_dir),
            allow_slower=self.allow_slower,
            max_validations=self.max_validations,
            holdout=self.holdout,
            strategy=self.strategy,
            seed=self.seed,
            objective=self.objective,
            executor=self.executor,
            workers=self.workers,
        )

    def _deadline(self) -> float | None:
        if self.time_budget is None:
            return None
        if not self.time_budget > 0:
            message = f"`time_budget` must be > 0, but got {self.time_budget}"
            raise ValidationError(message)
        return time.monotonic() + self.time_budget
