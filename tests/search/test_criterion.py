from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxdrop.errors import MetricError, ValidationError
from maxdrop.search.criterion import Criterion, check_max_drop, read_metric

metrics = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    ("kind", "higher", "floating", "metric", "drop"),
    [
        ("absolute", True, 0.75, 0.5, 0.25),
        ("absolute", True, 0.5, 0.75, -0.25),
        ("absolute", True, -2.0, -3.0, 1.0),
        ("absolute", True, 0.0, -0.5, 0.5),
        ("absolute", False, 2.0, 2.5, 0.5),
        ("absolute", False, 2.0, 1.5, -0.5),
        ("relative", True, 0.5, 0.25, 0.5),
        ("relative", True, 0.5, 0.75, -0.5),
        ("relative", True, -2.0, -3.0, 0.5),
        ("relative", True, -2.0, -1.0, -0.5),
        ("relative", False, 4.0, 5.0, 0.25),
        ("relative", False, -4.0, -3.0, 0.25),
    ],
)
def test_drop(kind: Any, higher: bool, floating: float, metric: float, drop: float) -> None:
    criterion = Criterion(max_drop=0.1, drop_type=kind, higher_is_better=higher)
    assert criterion.drop(metric, floating) == drop
    assert criterion.passes(drop) == (drop <= 0.1)


@given(metrics, metrics, st.sampled_from(["absolute", "relative"]), st.booleans())
def test_a_worse_metric_is_a_positive_drop(floating: float, metric: float, kind: Any, higher: bool) -> None:
    criterion = Criterion(max_drop=0.0, drop_type=kind, higher_is_better=higher)
    if floating == 0.0 and kind == "relative":
        return
    drop = criterion.drop(metric, floating)
    assert criterion.passes(drop) == (metric >= floating if higher else metric <= floating) or abs(drop) < 1e-300
    assert criterion.passes(criterion.drop(floating, floating))


def test_the_limit_has_no_tolerance() -> None:
    criterion = Criterion(max_drop=0.01)
    assert criterion.passes(0.01)
    assert not criterion.passes(float(np.nextafter(0.01, 1.0)))


def test_a_relative_drop_from_zero_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"DropType\.ABSOLUTE"):
        Criterion(max_drop=0.1, drop_type="relative").drop(0.5, 0.0)


@pytest.mark.parametrize("max_drop", [0, 0.0, 1, 0.01, 5.0, np.float32(0.5), np.float64(0.5), np.int64(1)])
def test_limits(max_drop: Any) -> None:
    check_max_drop(max_drop)


@pytest.mark.parametrize("max_drop", [-0.1, -1, float("nan"), float("inf"), None, "0.01", [0.01], 1j])
def test_limits_that_are_refused(max_drop: Any) -> None:
    with pytest.raises(ValidationError, match="max_drop"):
        check_max_drop(max_drop)


@pytest.mark.parametrize(
    ("returned", "metric", "per_item"),
    [
        (0.5, 0.5, None),
        (1, 1.0, None),
        (True, 1.0, None),
        (-3.5, -3.5, None),
        (np.float32(0.5), 0.5, None),
        (np.array(0.5), 0.5, None),
        (np.array([0.5]), 0.5, None),
        ((0.5, None), 0.5, None),
        ((0.5, []), 0.5, ()),
        ((0.5, [1, 0.0, True]), 0.5, (1.0, 0.0, 1.0)),
        ((0.5, (1.0,)), 0.5, (1.0,)),
        ((0.5, np.array([1.0, 0.0], np.float32)), 0.5, (1.0, 0.0)),
        ((0.5, [np.array(1.0), np.float32(0.0)]), 0.5, (1.0, 0.0)),
        ((np.float64(0.5), [[np.zeros(3)], [np.zeros(3)]]), 0.5, None),
        ((0.5, [np.zeros(3), np.zeros(3)]), 0.5, None),
    ],
)
def test_metrics(returned: Any, metric: float, per_item: tuple[float, ...] | None) -> None:
    found = read_metric(returned)
    assert found == (metric, per_item)
    assert isinstance(found[0], float)


@pytest.mark.parametrize(
    "returned",
    [
        None,
        "0.5",
        "good",
        b"1",
        [],
        {},
        {"accuracy": 0.5},
        (),
        (0.5,),
        (0.5, None, None),
        (None, [0.5]),
        np.zeros(2),
        1j,
        object(),
    ],
)
def test_what_is_no_number_is_refused(returned: Any) -> None:
    with pytest.raises(MetricError, match="must return a number"):
        read_metric(returned)


@pytest.mark.parametrize("metric", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_what_is_not_finite_is_refused(metric: float) -> None:
    for returned in (metric, (metric, None), (metric, [0.5])):
        with pytest.raises(MetricError, match="finite"):
            read_metric(returned)


@pytest.mark.parametrize("per_item", [0.5, "abc", [None, 0.5], ["0.5"], np.array(0.5), object(), {"a": 1.0}])
def test_per_item_values_of_another_kind_are_refused(per_item: Any) -> None:
    with pytest.raises(MetricError, match="per-item"):
        read_metric((0.5, per_item))


def test_per_item_values_may_be_undefined() -> None:
    assert repr(read_metric((0.5, [float("nan"), 1.0]))) == "(0.5, (nan, 1.0))"
