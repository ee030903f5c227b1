"""What candidates are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic

from maxdrop.data.plan import QuantizationPlan
from maxdrop.data.protocols import Backend, ModelT
from maxdrop.data.trace import Trace
from maxdrop.ptq.build import Planner


@dataclass(frozen=True)
class Materials(Generic[ModelT]):
    """What every candidate of a search, and its result, is made of.

    Attributes:
        backend: of the model.
        model: the float model.
        planner: makes plans.
        config: the user's compile configuration.
        trace: every trial is appended to it before the next one starts.
    """

    backend: Backend[ModelT]
    model: ModelT
    planner: Planner
    config: Mapping[str, Any]
    trace: Trace

    def build(self, plan: QuantizationPlan) -> ModelT:
        """The float model after a plan of the planner."""
        return self.backend.apply(self.model, plan, self.planner.arrays)

    def compile(self, model: ModelT) -> Any:
        """The model as the user will run it."""
        return self.backend.compile(model, self.config)
