"""One row of the table of graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import openvino as ov

Placement = Literal["table", "all"]
Sampler = Callable[[np.random.Generator], Any]


@dataclass(frozen=True)
class Case:
    """A graph and what is to become of it.

    Attributes:
        build: makes the model; its name is the name of the case.
        int8: ops that are int8 by default, separated by spaces.
        more: ops that are int8 too with placement="all".
        unseen: those of them that the runtime hides in a fused subgraph.
        floor: least SQNR of the default result in dB.
        floor_all: the same with placement="all" and plain min-max ranges.
        reasons: parts of the stated reasons of ops that stay float by default.
        reasons_all: the same with placement="all".
        sample: makes one sample; without it standard normal numbers of the model's shapes.
    """

    build: Callable[[], ov.Model]
    int8: str = ""
    more: str = ""
    unseen: str = ""
    floor: float = 25.0
    floor_all: float = 25.0
    reasons: Mapping[str, str] = field(default_factory=dict)
    reasons_all: Mapping[str, str] = field(default_factory=dict)
    sample: Sampler | None = None

    @property
    def name(self) -> str:
        """Name of the case."""
        return self.build.__name__

    @property
    def placements(self) -> list[Placement]:
        """Both placements where they differ, or where the default ranges are coarse."""
        differ = self.more or self.reasons_all or self.floor < 25
        return ["table", "all"] if differ else ["table"]

    def expected(self, placement: str) -> set[str]:
        """The ops that must be int8."""
        return set(self.int8.split()) | (set(self.more.split()) if placement == "all" else set())

    def executed(self, placement: str) -> set[str]:
        """The ops that the runtime must be seen to execute in int8."""
        return self.expected(placement) - set(self.unseen.split())

    def samples(self, seed: int, count: int) -> list[Any]:
        """Random samples."""
        random = np.random.default_rng(seed)
        make = self.sample or _sampler(self.build())
        return [make(random) for _ in range(count)]


def _sampler(model: ov.Model) -> Sampler:
    shapes = {port.any_name: _concrete(port.partial_shape) for port in model.inputs}
    return lambda random: {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def _concrete(shape: ov.PartialShape) -> list[int]:
    return [8 if size.is_dynamic else size.get_length() for size in shape]
