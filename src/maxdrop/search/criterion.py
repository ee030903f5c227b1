"""The limit: what counts as a drop, and which drops pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, Literal

from maxdrop.data.schema import Frozen
from maxdrop.errors import MetricError, ValidationError


class Criterion(Frozen):
    """How much of the metric may be lost.

    Attributes:
        max_drop: largest allowed drop; compared without any tolerance.
        drop_type: whether the drop is counted in units of the metric or as a share of the float metric.
        higher_is_better: False for errors and losses.
        min_metric: what the metric must reach whatever the drop; where lower is better, what it must not exceed.
    """

    max_drop: float
    drop_type: Literal["absolute", "relative"] = "absolute"
    higher_is_better: bool = True
    min_metric: float | None = None

    def drop(self, metric: float, float_metric: float) -> float:
        """The drop of `metric` against the float model's; positive is worse.

        Raises:
            ValidationError: for a relative drop from a float metric of zero.
        """
        lost = float_metric - metric if self.higher_is_better else metric - float_metric
        if self.drop_type == "absolute":
            return lost
        if float_metric == 0.0:
            message = (
                "a relative drop needs a float metric other than 0, but the float model scored 0; "
                "use drop_type=DropType.ABSOLUTE"
            )
            raise ValidationError(message)
        return lost / abs(float_metric)

    def passes(self, drop: float) -> bool:
        """Whether the drop is within the limit."""
        return drop <= self.max_drop

    def against(self, float_metric: float) -> Criterion:
        """The same limit for a known float metric, with `min_metric` turned into a largest drop.

        Raises:
            ValidationError: the float model itself misses `min_metric`, or a relative drop has no meaning.
        """
        self.drop(float_metric, float_metric)
        if self.min_metric is None:
            return self
        room = self.drop(self.min_metric, float_metric)
        if room < 0.0:
            message = (
                f"`min_metric` must be met by the float model, but that scored {float_metric:.6g} and min_metric is "
                f"{self.min_metric:.6g}; no candidate can be expected to be better than the float model"
            )
            raise ValidationError(message)
        return self.model_copy(update={"max_drop": min(self.max_drop, room)})

    def in_units_of_the_metric(self, float_metric: float) -> float:
        """The largest allowed loss in units of the metric."""
        return self.max_drop * (1.0 if self.drop_type == "absolute" else abs(float_metric))


def check_max_drop(max_drop: object) -> None:
    """Refuse limits that no model or every model would meet."""
    if not isinstance(max_drop, Real) or not math.isfinite(max_drop) or max_drop < 0:
        message = f"`max_drop` must be a finite number >= 0, but got {max_drop!r}"
        raise ValidationError(message)


def read_metric(returned: Any) -> tuple[float, tuple[float, ...] | None]:
    """What a validation function returned, as a metric and per-item values.

    Accepts a number, `(number, None)`, `(number, one number per item)` and `(number, outputs per item)`; outputs
    carry no values and are dropped.

    Raises:
        MetricError: when it is none of these, or not finite.
    """
    if isinstance(returned, Mapping) and returned:
        message = (
            "with one number for `max_drop` the validation function must return a number too, but returned metrics by "
            f"name ({', '.join(map(str, returned))}); give `max_drop` as a dict with a limit for each that matters, on "
            "the command line as --max-drop NAME=X"
        )
        raise MetricError(message)
    metric, per_item = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)
    try:
        number = _number(metric)
    except (TypeError, ValueError) as error:
        message = (
            "the validation function must return a number, or a tuple of a number and one value per item, "
            f"but returned {type(returned).__name__}: {returned!r:.200}"
        )
        raise MetricError(message) from error
    if not math.isfinite(number):
        message = (
            f"the metric must be finite, but the validation function returned {number}; "
            "check the model's outputs and the function on the float model"
        )
        raise MetricError(message)
    return number, _values(per_item)


def _values(per_item: Any) -> tuple[float, ...] | None:
    if per_item is None:
        return None
    if isinstance(per_item, (str, bytes, Mapping)) or not hasattr(per_item, "__len__"):
        message = f"per-item values must be a list, but got {type(per_item).__name__}"
        raise MetricError(message)
    try:
        if any(_is_output(x) for x in per_item):
            return None
        return tuple(_number(x) for x in per_item)
    except (TypeError, ValueError) as error:
        message = f"per-item values must be numbers, one for each item, but got {per_item!r:.200}"
        raise MetricError(message) from error


def _is_output(x: Any) -> bool:
    return hasattr(x, "__len__") and not isinstance(x, (str, bytes)) and getattr(x, "ndim", 1) > 0


def _number(x: Any) -> float:
    if isinstance(x, (str, bytes)):
        raise TypeError(type(x).__name__)
    # Frameworks hand out arrays with one element; float() of these is deprecated in numpy.
    return float(x.item()) if getattr(x, "size", None) == 1 else float(x)
