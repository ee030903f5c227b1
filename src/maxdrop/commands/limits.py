"""Limits on the command line: a number for the only metric, or NAME=NUMBER for each of several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import typer

from maxdrop.errors import ValidationError
from maxdrop.options import DropType

_DEFAULT_DROP = 0.01


@dataclass(frozen=True)
class Limit:
    """What may be lost."""

    panel: ClassVar[str] = "Limit"

    max_drop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]X",
            help="Largest allowed drop of the metric. With NAME= of one of several metrics; repeat it for each that "
            "is limited.  \\[default: 0.01]",
        ),
    ] = None
    drop_type: Annotated[DropType, typer.Option(help="Units of the metric, or share of the float metric.")] = (
        DropType.ABSOLUTE
    )
    lower_is_better: Annotated[bool, typer.Option("--lower-is-better", help="The metric is an error; all are.")] = False
    lower_is_better_for: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="This one of several metrics is; may be repeated.")
    ] = None
    min_metric: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]X", help="What the metric must also reach; as --max-drop."),
    ] = None
    confidence: Annotated[
        float | None, typer.Option(help="Limit the upper end of the drop's interval at this probability, such as 0.95.")
    ] = None
    holdout: Annotated[float, typer.Option(help="Share of the validation data to confirm the result on.")] = 0.0

    def as_arguments(self) -> dict[str, Any]:
        """Keyword arguments of `maxdrop.control_accuracy`.

        Raises:
            ValidationError: an option is wrong, or they do not fit together.
        """
        drops = by_metric("--max-drop", self.max_drop)
        drops = _DEFAULT_DROP if drops is None else drops
        floors = by_metric("--min-metric", self.min_metric)
        names = list(drops) if isinstance(drops, dict) else []
        if floors is not None and isinstance(floors, dict) != isinstance(drops, dict):
            message = (
                "`--min-metric` must be given as `--max-drop` is, both as X for a single metric or both as NAME=X, but "
                f"got --max-drop {_shown(self.max_drop)} and --min-metric {_shown(self.min_metric)}"
            )
            raise ValidationError(message)
        _check_known("--min-metric", floors if isinstance(floors, dict) else [], names)
        _check_known("--lower-is-better-for", self.lower_is_better_for or [], names)
        errors = names if self.lower_is_better else self.lower_is_better_for or []
        return {
            "max_drop": drops,
            "drop_type": self.drop_type,
            "higher_is_better": {n: n not in errors for n in names} if names else not self.lower_is_better,
            "min_metric": floors,
            "confidence": self.confidence,
            "holdout": self.holdout,
        }


def by_metric(option: str, given: Sequence[str] | None) -> float | dict[str, float] | None:
    """A number, or numbers by name, from what the user gave for `option`; None for nothing.

    Raises:
        ValidationError: a value is no number, or plain numbers and NAME=X are mixed or repeated.
    """
    if not given:
        return None
    pairs = [_pair(option, text) for text in given]
    names = [name for name, _ in pairs]
    if names == [""]:
        return pairs[0][1]
    if "" in names:
        message = f"`{option}` must be one number, or NAME=X for each metric, but got {_shown(given)}"
        raise ValidationError(message)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        message = f"`{option}` must be given once for a metric, but {', '.join(twice)} comes twice in {_shown(given)}"
        raise ValidationError(message)
    return dict(pairs)


def _pair(option: str, text: str) -> tuple[str, float]:
    name, equals, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if math.isnan(value) or (equals and not name.strip()):
        message = f"`{option}` must be a number, or NAME=NUMBER such as top1=0.01, but got {text!r}"
        raise ValidationError(message)
    return name.strip(), value


def _check_known(option: str, given: Sequence[str] | dict[str, float], names: Sequence[str]) -> None:
    unknown = [name for name in given if name not in names]
    if unknown:
        limited = f"these have one: {', '.join(names)}" if names else "that names none, as --max-drop ece=0.005 would"
        message = (
            f"`{option}` must name a metric that has a limit in `--max-drop`, but {unknown[0]!r} has none; {limited}"
        )
        raise ValidationError(message)


def _shown(given: Sequence[str] | None) -> str:
    return " ".join(given) if given else "nothing"
