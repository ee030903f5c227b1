"""What a search will cost, before it starts."""

from __future__ import annotations

import math

from maxdrop.data.schema import Frozen

TYPICAL_CANDIDATES = 4
"""Candidates after the fully quantized model in a typical search, as counted on simulated models."""

SWITCHING = 1.3
"""Time of a forward of the model with switches over one of the float model."""


class Work(Frozen):
    """An amount of work.

    Attributes:
        validations: calls of the user's function on all items, in passes.
        compiles: models to compile.
        forwards: samples through a model; None when the number of validation items is not known.
        seconds: time for these; None when nothing was measured or the number of items is not known.
    """

    validations: float
    compiles: int
    forwards: int | None
    seconds: float | None


class Forecast(Frozen):
    """What a search will cost.

    Attributes:
        int8_ops: ops that the search decides about.
        calibration_samples: to collect statistics from.
        validation_items: of one pass; None when not known.
        ranking_samples: samples that rank the ops.
        least: when the fully quantized model is within the limit.
        typical: when it is not.
        most: when the whole budget is used.
    """

    int8_ops: int
    calibration_samples: int
    validation_items: int | None
    ranking_samples: int
    least: Work
    typical: Work
    most: Work

    def summary(self) -> str:
        """A few lines for people."""
        lines = [
            f"{self.int8_ops} ops to decide about, {self.calibration_samples} calibration samples, "
            f"{'an unknown number of' if self.validation_items is None else self.validation_items} validation items"
        ]
        for name, work in (("at least", self.least), ("typically", self.typical), ("at most", self.most)):
            forwards = "" if work.forwards is None else f", {work.forwards} forwards"
            seconds = "" if work.seconds is None else f", about {work.seconds:.3g} s"
            lines.append(f"{name:<10} {work.validations:g} validations, {work.compiles} compiles{forwards}{seconds}")
        return "\n".join(lines)


def forecast(
    *,
    int8_ops: int,
    calibration_samples: int,
    validation_items: int | None,
    ranking_samples: int,
    max_validations: float,
    max_evaluations: float = math.inf,
    seconds_per_forward: float | None = None,
) -> Forecast:
    """Predict the cost of a search.

    Args:
        int8_ops: ops that the search decides about.
        calibration_samples: number of calibration samples.
        validation_items: number of validation items, None when not known.
        ranking_samples: samples that rank the ops.
        max_validations: the limit on passes.
        max_evaluations: the limit on candidates.
        seconds_per_forward: of the float model; None when it was not measured. The user's own work for an item is not
            in it, so the seconds are a lower estimate.
    """

    def work(candidates: float) -> Work:
        ranked = candidates > 0
        validations = (2.0 if int8_ops else 1.0) + candidates
        # Beside the candidates: for statistics, to compare two calls, and the two models that are timed at the end.
        compiles = int(validations) + 1 + 1 + 2 + ranked
        ranking = ranking_samples * (int8_ops + 1) if ranked else 0
        if validation_items is None:
            return Work(validations=validations, compiles=compiles, forwards=None, seconds=None)
        plain = calibration_samples + validations * validation_items
        seconds = None
        if seconds_per_forward is not None:
            seconds = float(f"{seconds_per_forward * (plain + SWITCHING * ranking):.2g}")
        return Work(
            validations=validations, compiles=compiles, forwards=round(plain + ranking), seconds=seconds
        )  # fmt: skip

    room = max(0.0, min(float(math.floor(max_validations)) - 2.0, max_evaluations)) if int8_ops > 1 else 0.0
    return Forecast(
        int8_ops=int8_ops,
        calibration_samples=calibration_samples,
        validation_items=validation_items,
        ranking_samples=ranking_samples,
        least=work(0),
        typical=work(min(TYPICAL_CANDIDATES, room)),
        most=work(min(room, 2.0 ** min(int8_ops, 30))),
    )
