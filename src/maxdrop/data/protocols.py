"""The interfaces through which the core meets frameworks and range estimators.

Protocols instead of base classes: a plug-in needs no import from here, and a test can pass a small fake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.graph import Graph
from maxdrop.data.plan import Arrays, QuantizationPlan
from maxdrop.data.spec import QuantizerSpec
from maxdrop.data.statistics import Request, Statistics, TensorStatistics

ModelT = TypeVar("ModelT")

Progress = Callable[[int], None]
"""Called with the number of items that are done."""


class Switchable(Protocol):
    """The float model with a switch in front of every int8 op."""

    @property
    def ops(self) -> Sequence[str]:
        """The ops that have a switch, in topological order."""

    def run(self, sample: Any, on: Iterable[str]) -> list[NDArray[Any]]:
        """Outputs for one sample with the activations of the ops in `on` quantized, all others float."""


class Backend(Protocol[ModelT]):
    """All that the core asks of a framework.

    It can be pickled; the copy opens the framework anew. Worker processes use such copies.
    """

    @property
    def versions(self) -> dict[str, str]:
        """Versions that decide what a model computes."""

    @property
    def machine(self) -> dict[str, str]:
        """What decides how fast a model runs."""

    @property
    def runs_target(self) -> bool:
        """Whether this machine has the device that models are made for."""

    def own(self, model: ModelT) -> ModelT:
        """A copy to work on, whose names do not depend on the process that read the model."""

    def graph(self, model: ModelT) -> Graph:
        """A read-only view of `model`."""

    def observe(
        self,
        model: ModelT,
        requests: Sequence[Request],
        samples: Iterable[Any],
        progress: Progress,
        *,
        exact: bool = True,
    ) -> Statistics:
        """Run `samples` once and return statistics of the requested values.

        Without `exact` the values may be off by 1 % of their range, if that is faster.
        """

    def apply(self, model: ModelT, plan: QuantizationPlan, arrays: Arrays, *, observable: bool = False) -> ModelT:
        """A new model that follows `plan`; `model` stays as it is.

        With `observable`, for `observe`: every value of the float model is there and means the same. Otherwise the
        backend may move constants between neighbours, where that makes the model faster.
        """

    def compile(self, model: ModelT, config: Mapping[str, Any]) -> Any:
        """The runnable object that the user's validation function receives."""

    def outputs(self, model: ModelT, config: Mapping[str, Any], samples: Iterable[Any]) -> Iterator[list[NDArray[Any]]]:
        """Outputs of `model`, compiled with `config`, for one sample after the other."""

    def limit_threads(self, count: int) -> None:
        """Compile models for at most `count` threads from now on, unless the user's configuration says otherwise."""

    def switchable(self, model: ModelT, plan: QuantizationPlan) -> Switchable:
        """One compiled model in which each op of the plan can be switched between float and int8."""

    def save(self, model: ModelT, path: Path) -> None:
        """Write `model` to `path`, atomically."""

    def load(self, path: Path) -> ModelT:
        """Read a model."""

    def latency(
        self, models: Sequence[ModelT], config: Mapping[str, Any], samples: Sequence[Any], blocks: int
    ) -> NDArray[np.float64]:
        """Seconds per inference, float64 (models, blocks), measured in turns.

        Each model is run as `config` has it compiled: one inference after the other, or many at a time. Samples of
        different sizes take turns.
        """

    def busy(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """`config` for many inferences at a time, unless it says otherwise itself."""

    def op_seconds(
        self, models: Sequence[ModelT], config: Mapping[str, Any], sample: Any, graph: Graph
    ) -> list[dict[str, float]]:
        """Seconds of each op in one inference of each model, with what it takes to convert its inputs.

        `graph` is of the float model; the others were made from it by `apply`. Ops that cannot be told apart from
        their neighbours are left out.
        """

    def default_reduced_range(self) -> Literal["all", "first", "none"]:
        """Which weights need 7 of 8 bits on the target when the user does not say."""

    def executed(self, compiled: Any, plan: QuantizationPlan) -> dict[str, bool]:
        """For each op of the plan, whether the runtime really executes it in integers."""


class RangeEstimator(Protocol):
    """Statistics of one tensor to the two ends of its range."""

    def __call__(self, statistics: TensorStatistics, spec: QuantizerSpec) -> tuple[float, float]:
        """The range (minimum, maximum) that a per-tensor quantizer should represent."""
