"""Limits on the command line."""

from __future__ import annotations

from typing import Any

import pytest

from maxdrop.commands.limits import Limit, by_metric
from maxdrop.errors import ValidationError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ([], None),
        (["0.01"], 0.01),
        (["1e-3"], 0.001),
        (["top1=0.01"], {"top1": 0.01}),
        (["top1=0.01", "ece=.5"], {"top1": 0.01, "ece": 0.5}),
        (["map@iou=0.5=0.02"], {"map@iou=0.5": 0.02}),
    ],
)
def test_numbers_and_named_numbers(given: list[str] | None, expected: Any) -> None:
    assert by_metric("--max-drop", given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["abc"], "`--max-drop` must be a number, or NAME=NUMBER such as top1=0.01, but got 'abc'"),
        (["top1="], "but got 'top1='"),
        (["=0.1"], "but got '=0.1'"),
        (["nan"], "but got 'nan'"),
        (["0.1", "0.2"], "one number, or NAME=X for each metric, but got 0.1 0.2"),
        (["0.1", "a=0.2"], "but got 0.1 a=0.2"),
        (["a=0.1", "a=0.2"], "a comes twice in a=0.1 a=0.2"),
    ],
)
def test_what_cannot_be_a_limit_is_refused(given: list[str], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        by_metric("--max-drop", given)
    assert message in str(caught.value)


def test_directions_go_with_their_metrics() -> None:
    two = ["top1=0.01", "ece=0.005"]
    assert Limit(max_drop=two, lower_is_better_for=["ece"]).as_arguments()["higher_is_better"] == {
        "top1": True,
        "ece": False,
    }
    assert Limit(max_drop=two, lower_is_better=True).as_arguments()["higher_is_better"] == {"top1": False, "ece": False}
    assert Limit(lower_is_better=True).as_arguments()["higher_is_better"] is False
    assert Limit().as_arguments()["max_drop"] == 0.01


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (Limit(max_drop=["a=1"], min_metric=["0.5"]), "--max-drop a=1 and --min-metric 0.5"),
        (Limit(min_metric=["a=0.5"]), "--max-drop nothing and --min-metric a=0.5"),
        (Limit(max_drop=["a=1"], min_metric=["b=0.5"]), "`--min-metric` must name a metric"),
        (Limit(max_drop=["a=1"], lower_is_better_for=["b"]), "'b' has none; these have one: a"),
        (Limit(lower_is_better_for=["b"]), "that names none"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(limit: Limit, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        limit.as_arguments()
    assert message in str(caught.value)
