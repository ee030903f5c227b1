"""What a search will cost, before it starts: every step of it, counted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from maxdrop.data.schema import Frozen

TYPICAL_CANDIDATES = 4
"""Candidates after the fully quantized model in a typical search, as counted on simulated models."""

BUILDING = 2.5
"""Time to build, write, read and compile a changed model over compiling the float one: 2.2 on the models measured."""

OBSERVING = 1.5
"""Time of a forward that is reduced to statistics over one of the float model: 1.0 to 1.6 on the models measured."""

SWITCHING = 2.0
"""Time of a forward of the model with switches over one of the float model: 0.8 to 2.4 on the models measured."""

PROFILED_RUNS = 33
"""Runs of a model whose ops are timed one by one, about: how many is the backend's choice."""


class Step(Frozen):
    """One kind of work.

    Attributes:
        name: for people.
        compiles: models to compile.
        forwards: samples through a model, one for each validation item; None when their number is not known.
        seconds: time for these; None when nothing was measured or the number of items is not known.
    """

    name: str
    compiles: int
    forwards: int | None
    seconds: float | None


class Work(Frozen):
    """An amount of work.

    Attributes:
        validations: calls of the user's function on all items, in passes.
        compiles: models to compile, in all steps.
        forwards: samples through a model, in all steps; None when that of one step is not known.
        seconds: time of all steps; None when that of one step is not known.
        steps: in the order of the search.
    """

    validations: float
    compiles: int
    forwards: int | None
    seconds: float | None
    steps: tuple[Step, ...]


class Forecast(Frozen):
    """What a search will cost.

    Attributes:
        int8_ops: ops that the search decides about; fewer where int8 is measured not to pay on some.
        calibration_samples: to collect statistics from.
        validation_items: of one pass; None when not known.
        ranking_samples: samples that rank the ops.
        validation_is_timed: whether `seconds` know the user's validation function; if not they only count the
            model's own time, and are a lower estimate.
        least: when the fully quantized model is within the limit.
        typical: when it is not.
        most: when the whole budget is used.
    """

    int8_ops: int
    calibration_samples: int
    validation_items: int | None
    ranking_samples: int
    validation_is_timed: bool
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
            seconds = "" if work.seconds is None else f", about {in_words(work.seconds)}"
            lines.append(f"{name:<10} {work.validations:g} validations, {work.compiles} compiles{forwards}{seconds}")
        if self.typical.seconds is not None and not self.validation_is_timed:
            lines.append("the time of the validation function was not measured and is not in these seconds")
        return "\n".join(lines)


def in_words(seconds: float) -> str:
    """A duration for people, such as "27 s", "4.5 min" or "12 h"."""
    for unit, name in ((1.0, "s"), (60.0, "min")):
        if seconds < 99.5 * unit:
            return f"{seconds / unit:.{0 if seconds >= 9.95 * unit else 1}f} {name}"
    return f"{seconds / 3600.0:.1f} h"


@dataclass(frozen=True)
class Rates:
    """What was measured on the float model, in seconds.

    Attributes:
        forward: one sample through the model.
        compiling: compiling the model.
        sample: taking one calibration sample from its dataset.
        block: timing one compiled model for one block.
        item: the user's function on one validation item; None when it was not measured.
    """

    forward: float
    compiling: float
    sample: float
    block: float
    item: float | None = None


class Timings(NamedTuple):
    """How many models are timed, each compiled anew, and for how many blocks each."""

    least: int = 0
    typical: int = 0
    most: int = 0
    blocks: int = 0


NOTHING_TIMED = Timings()


class Effort(NamedTuple):
    """Models to build, and forwards on them."""

    compiles: int = 0
    forwards: int = 0


NO_EFFORT = Effort()


@dataclass(frozen=True)
class Task:
    """What a forecast is made of.

    Attributes:
        int8_ops: number of ops that the search decides about.
        calibration_samples: number of calibration samples.
        validation_items: number of items in one pass, None when not known.
        repeated_items: items that are scored twice to see whether equal calls give equal metrics.
        held_out_items: items that the float model and the result are scored on at the end.
        ranking_samples: samples that rank the ops.
        max_validations: the limit on passes.
        max_evaluations: the limit on candidates.
        what_pays: timings that find out on which ops int8 pays.
        profiled_models: models that are run to tell what each op is worth.
        tuning: of the parameters of quantization, before the search; without it ops are ranked and retuned only where
            the fully quantized model fails.
        retuning: looking for better int8 forms of single ops.
        result: timings of the float model and the result.
    """

    int8_ops: int
    calibration_samples: int
    validation_items: int | None
    repeated_items: int
    held_out_items: int
    ranking_samples: int
    max_validations: float
    max_evaluations: float = math.inf
    what_pays: Timings = NOTHING_TIMED
    profiled_models: int = 0
    tuning: Effort = NO_EFFORT
    retuning: Effort = NO_EFFORT
    result: Timings = NOTHING_TIMED


def forecast(task: Task, rates: Rates) -> Forecast:
    """Predict the cost of a search.

    Args:
        task: what is to be searched.
        rates: how fast the float model is.
    """
    room = max(0.0, min(float(math.floor(task.max_validations)) - 2.0, task.max_evaluations))
    room = min(room, 2.0 ** min(task.int8_ops, 30)) if task.int8_ops > 1 else 0.0
    return Forecast(
        int8_ops=task.int8_ops,
        calibration_samples=task.calibration_samples,
        validation_items=task.validation_items,
        ranking_samples=task.ranking_samples,
        validation_is_timed=rates.item is not None,
        least=_work(task, rates, 0, 0),
        typical=_work(task, rates, min(TYPICAL_CANDIDATES, room), 1),
        most=_work(task, rates, room, 2),
    )


def _work(task: Task, rates: Rates, candidates: float, case: int) -> Work:
    """The steps of a search that tries so many candidates after the fully quantized model.

    Args:
        task: what is to be searched.
        rates: how fast the float model is.
        candidates: how many.
        case: which entry of the timings holds.
    """
    passes = (2.0 if task.int8_ops else 1.0) + candidates
    items = None if task.validation_items is None else round(passes * task.validation_items)
    item = rates.forward if rates.item is None else rates.item
    observed = max(rates.sample, OBSERVING * rates.forward)
    steps = [
        _step("calibration", rates, 1, task.calibration_samples, observed),
        _timing("measuring what pays", rates, task.what_pays, case),
        _step("validation", rates, math.ceil(passes), items, item),
        _step("repeatability", rates, 1, 2 * task.repeated_items, item),
        _timing("timing the result", rates, task.result, case),
        _step("held-out items", rates, 2 if task.held_out_items else 0, 2 * task.held_out_items, item),
    ]
    ranked = task.ranking_samples * (task.int8_ops + 1)
    ranking = [
        _step("tuning", rates, *task.tuning, rates.forward),
        _step("ranking", rates, 1, ranked, SWITCHING * rates.forward),
        _step("retuning", rates, *task.retuning, SWITCHING * rates.forward),
    ]
    profiled = task.profiled_models
    if candidates:
        steps.insert(4, _step("timing ops", rates, profiled, profiled * PROFILED_RUNS, rates.forward))
    if task.tuning.compiles:
        steps[2:2] = ranking
    elif candidates:
        steps[4:4] = ranking
    done = tuple(step for step in steps if step.compiles)
    forwards, seconds = [step.forwards for step in done], [step.seconds for step in done]
    return Work(
        validations=passes,
        compiles=sum(step.compiles for step in done),
        forwards=None if None in forwards else sum(f for f in forwards if f is not None),
        seconds=None if None in seconds else _rounded(sum(s for s in seconds if s is not None)),
        steps=done,
    )


def _step(name: str, rates: Rates, compiles: int, forwards: int | None, each: float) -> Step:
    """So many forwards of `each` seconds on models that have to be built first."""
    seconds = None if forwards is None else _rounded(compiles * BUILDING * rates.compiling + forwards * each)
    return Step(name=name, compiles=compiles, forwards=forwards, seconds=seconds)


def _timing(name: str, rates: Rates, timings: Timings, case: int) -> Step:
    """Models that are timed; how often each is run is the backend's choice and follows from the time it takes."""
    models = timings[case]
    return _step(name, rates, models, round(models * timings.blocks * rates.block / rates.forward), rates.forward)


def _rounded(seconds: float) -> float:
    return float(f"{seconds:.3g}")
