"""Limits on one metric or on several, and how a measured candidate compares with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maxdrop.data.schema import Frozen
from maxdrop.data.trace import Trial
from maxdrop.errors import MetricError, ValidationError
from maxdrop.search.confidence import check_confidence, upper_drop
from maxdrop.search.criterion import Criterion, check_max_drop, read_metric

_LEAST_LIMIT = 1e-9
"""Stands for a limit of 0 where drops are counted in shares of their limits."""

_NO_CONFIDENCE = (
    "`confidence` needs a validation function that returns (metric, one number for each item) with the metric being "
    "the mean of these numbers; without `confidence` it is the measured drop that is limited"
)


@dataclass(frozen=True)
class Measurement:
    """What the user's function returned for one model.

    Attributes:
        metric: of several metrics the first one of the limits.
        metrics: all metrics by name; None when the function returned a single number.
        per_item: one number for each item, where the function gave them.
    """

    metric: float
    metrics: dict[str, float] | None = None
    per_item: tuple[float, ...] | None = None


class Limits(Frozen):
    """What a candidate may lose.

    Attributes:
        criteria: the limit on each metric by name; a function that returns a single number has one, named "".
        confidence: None compares the measured drop with the limit; a probability compares the upper end of its
            one-sided interval.
        seed: of the resampling behind that interval.
    """

    criteria: dict[str, Criterion]
    confidence: float | None = None
    seed: int = 0

    @property
    def single(self) -> Criterion | None:
        """The limit on the only metric, None when there are several."""
        return self.criteria.get("")

    def as_setting(self) -> dict[str, Any]:
        """All of it as JSON; with the keys of a `Criterion` on top, in the terms of `Trial.bound`."""
        if self.single is not None:
            return {**self.single.model_dump(mode="json"), "confidence": self.confidence}
        limits = {name: criterion.model_dump(mode="json") for name, criterion in self.criteria.items()}
        return {"max_drop": 1.0, "drop_type": "share of the limit", "higher_is_better": True, "limits": limits}

    def without_floors(self) -> Limits:
        """The same limits on drops, with no `min_metric`."""
        free = {name: c.model_copy(update={"min_metric": None}) for name, c in self.criteria.items()}
        return self.model_copy(update={"criteria": free})

    def read(self, returned: Any) -> Measurement:
        """What a validation function returned.

        Raises:
            MetricError: it is no metric, lacks one that has a limit, or is not finite.
        """
        if self.single is not None:
            metric, per_item = read_metric(returned)
            return Measurement(metric, None, per_item)
        if not isinstance(returned, Mapping):
            message = (
                f"with limits on {sorted(self.criteria)} the validation function must return a dict with these "
                f"metrics, but returned {type(returned).__name__}: {returned!r:.200}"
            )
            raise MetricError(message)
        missing = sorted(self.criteria.keys() - returned.keys())
        if missing:
            message = (
                f"the validation function must return every metric that has a limit, but {missing} are missing among "
                f"{sorted(map(str, returned))}"
            )
            raise MetricError(message)
        metrics = {str(name): read_metric(value)[0] for name, value in returned.items()}
        return Measurement(metrics[next(iter(self.criteria))], metrics)

    def for_strategies(self, floating: Trial) -> Criterion:
        """The limit on `Trial.bound`, with the float model's metrics known.

        Raises:
            ValidationError: see `Criterion.against`.
        """
        exact = self._against(floating)
        return exact.get("", Criterion(max_drop=1.0))

    def drop(self, measured: Measurement, floating: Trial) -> float:
        """The drop against the float trial; of several metrics the largest share of a limit that is used up."""
        exact = self._against(floating)
        if self.single is not None:
            drop = self.single.drop(measured.metric, floating.metric or 0.0)
            return _beyond(drop, exact[""]) if _misses_floor(self.single, measured.metric) else drop
        before, after = floating.metrics or {}, measured.metrics or {}
        return max(_share(self.criteria[name], limit, after[name], before[name]) for name, limit in exact.items())

    def drops(self, trial: Trial, floating: Trial) -> dict[str, float]:
        """The drop of every metric that has a limit, in the terms of that limit."""
        return {name: c.drop(_metric(trial, name), _metric(floating, name)) for name, c in self.criteria.items()}

    def upper(self, measured: Measurement, floating: Trial) -> float | None:
        """Upper end of the drop's interval, None when the limit is on the drop itself.

        Raises:
            MetricError: the per-item values do not tell it.
        """
        if self.confidence is None or self.single is None:
            return None
        found = upper_drop(
            floating.per_item,
            measured.per_item,
            floating.metric or 0.0,
            measured.metric,
            self.single,
            level=self.confidence,
            seed=self.seed,
        )
        if found is None:
            raise MetricError(_NO_CONFIDENCE)
        drop = self.drop(measured, floating)  # beyond the limit where `min_metric` is missed
        return max(found, drop)

    def upper_is_known(self, floating: Trial) -> None:
        """Check at the float model's trial that the upper end of a drop's interval can be told.

        Raises:
            MetricError: the per-item values do not tell it.
        """
        self.upper(Measurement(floating.metric or 0.0, None, floating.per_item), floating)

    def _against(self, floating: Trial) -> dict[str, Criterion]:
        return {name: criterion.against(_metric(floating, name)) for name, criterion in self.criteria.items()}


def make_limits(
    max_drop: Any, drop_type: str, higher_is_better: Any, min_metric: Any, confidence: float | None, seed: int
) -> Limits:
    """Limits from the user's arguments: numbers, or dicts by metric.

    Raises:
        ValidationError: an argument is wrong, or the dicts do not fit together.
    """
    check_confidence(confidence)
    names = [str(name) for name in max_drop] if isinstance(max_drop, Mapping) else [""]
    if not names:
        message = "`max_drop` must be a number, or a dict with one limit for each metric, but got an empty dict"
        raise ValidationError(message)
    if confidence is not None and names != [""]:
        message = "`confidence` is available for a single metric only, but max_drop names several; leave it at None"
        raise ValidationError(message)
    for name, other in (("higher_is_better", higher_is_better), ("min_metric", min_metric)):
        unknown = sorted(other.keys() - set(names)) if isinstance(other, Mapping) else []
        if unknown:
            message = f"`{name}` must name metrics that have a limit in `max_drop`, but {unknown} have none"
            raise ValidationError(message)
    criteria = {}
    for name in names:
        limit = max_drop[name] if isinstance(max_drop, Mapping) else max_drop
        check_max_drop(limit)
        criteria[name] = Criterion(
            max_drop=limit,
            drop_type="relative" if drop_type == "relative" else "absolute",
            higher_is_better=bool(_of(higher_is_better, name, True)),
            min_metric=_floor(_of(min_metric, name, None), name in {"", *_keys(min_metric)}),
        )
    return Limits(criteria=criteria, confidence=confidence, seed=seed)


def _keys(wish: Any) -> list[str]:
    return list(wish) if isinstance(wish, Mapping) else []


def _of(wish: Any, name: str, default: Any) -> Any:
    return wish.get(name, default) if isinstance(wish, Mapping) else wish


def _floor(floor: Any, named: bool) -> float | None:
    if floor is None:
        return None
    if not named:
        message = "`min_metric` must be a dict by metric when `max_drop` is one, but got a number"
        raise ValidationError(message)
    if isinstance(floor, (str, bytes, Mapping)) or not math.isfinite(floor):
        message = f"`min_metric` must be a finite number, but got {floor!r}"
        raise ValidationError(message)
    return float(floor)


def _metric(trial: Trial, name: str) -> float:
    found = trial.metric if name == "" else (trial.metrics or {}).get(name)
    return float("nan") if found is None else found


def _misses_floor(criterion: Criterion, metric: float) -> bool:
    floor = criterion.min_metric
    return floor is not None and (metric < floor if criterion.higher_is_better else metric > floor)


def _beyond(drop: float, limit: Criterion) -> float:
    """`drop`, but in any case more than the limit: rounding must not hide a missed floor."""
    return max(drop, math.nextafter(limit.max_drop, math.inf))


def _share(criterion: Criterion, exact: Criterion, metric: float, float_metric: float) -> float:
    """Share of the limit that is used up; more than 1 exactly where the limit is broken."""
    drop = criterion.drop(metric, float_metric)
    if _misses_floor(criterion, metric):
        drop = _beyond(drop, exact)
    if exact.max_drop <= 0.0:
        return 1.0 + drop / _LEAST_LIMIT if drop > 0.0 else drop / _LEAST_LIMIT
    return drop / exact.max_drop
