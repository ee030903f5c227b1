"""A time budget ends the work between candidates too."""

from __future__ import annotations

import time
import warnings
from typing import Any

import pytest

import maxdrop as md
from maxdrop import demo, tuning
from tests.small_task import MAX_DROP, accuracy, coarse, datasets


class Clock:
    """The time, and much later once `late`."""

    late = False

    def monotonic(self) -> float:
        return time.monotonic() + (1e6 if self.late else 0.0)


@pytest.mark.parametrize(("stage", "reached"), [("rank", False), ("retune", True)])
def test_a_time_budget_ends_ranking_and_retuning(stage: str, reached: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, work = Clock(), getattr(tuning.Tuner, stage)

    def slow(tuner: tuning.Tuner, *arguments: Any) -> Any:
        until = tuner._until

        def started(*given: Any, **named: Any) -> Any:
            checked = until(*given, **named)
            clock.late = True
            return checked

        object.__setattr__(tuner, "_until", started)
        try:
            return work(tuner, *arguments)
        finally:
            clock.late = False

    monkeypatch.setattr(tuning, "time", clock)
    monkeypatch.setattr(tuning.Tuner, stage, slow)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "no 8-bit model", UserWarning)
        result = md.control_accuracy(
            demo.load_model(), *datasets(), accuracy, max_drop=MAX_DROP, time_budget=1e5,
            placement="table", allow_slower=True, advanced_quantization_parameters=coarse(),
        )  # fmt: skip
    assert result.reached is reached
    assert "retuned" not in result.trace.notes
    assert ("sensitivity" in result.trace.notes) is reached
    assert reached or result.stop_reason == "the time budget was spent"
