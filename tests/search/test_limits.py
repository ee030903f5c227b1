from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxdrop.data.trace import Trial
from maxdrop.errors import MetricError, ValidationError
from maxdrop.search.limits import Limits, Measurement, make_limits

shares = st.floats(0.0, 1.0)


def limits(max_drop: Any, kind: str = "absolute", higher: Any = True, floor: Any = None) -> Limits:
    return make_limits(max_drop, kind, higher, floor, None, 0)


def floating(metric: float | None = None, **metrics: float) -> Trial:
    first = metric if metric is not None else next(iter(metrics.values()))
    return Trial(number=0, role="float", candidate=None, metric=first, metrics=metrics or None, drop=0.0)


def several(**metrics: float) -> Measurement:
    return Measurement(next(iter(metrics.values())), metrics)


TWO = limits({"top1": 0.01, "ece": 0.005}, higher={"ece": False})


@given(shares, shares, shares, shares)
def test_several_limits_pass_exactly_when_each_of_them_does(a: float, b: float, top1: float, ece: float) -> None:
    base = floating(top1=a, ece=b)
    drop = TWO.drop(several(top1=top1, ece=ece), base)
    assert TWO.for_strategies(base).passes(drop) == (a - top1 <= 0.01 and ece - b <= 0.005)


@given(st.floats(0.0, 1.0, exclude_min=True), st.booleans())
def test_a_share_of_a_limit_is_exact_at_the_limit(limit: float, above: bool) -> None:
    both = limits({"a": limit, "b": 1.0}, higher=False)
    measured = math.nextafter(limit, 2.0) if above else limit
    drop = both.drop(several(a=measured, b=0.0), floating(a=0.0, b=0.0))
    assert (drop <= 1.0) == (not above)


def test_a_limit_of_zero_among_several() -> None:
    strict = limits({"a": 0.0, "b": 0.1})
    base = floating(a=0.5, b=0.5)
    assert strict.drop(several(a=0.5, b=0.45), base) == pytest.approx(0.5)
    assert strict.drop(several(a=0.6, b=0.5), base) <= 0.0
    assert strict.drop(several(a=math.nextafter(0.5, 0.0), b=0.5), base) > 1.0


def test_drops_are_told_by_metric() -> None:
    trial = Trial(number=1, role="int8", candidate=None, metric=0.8, metrics={"top1": 0.8, "ece": 0.02})
    assert TWO.drops(trial, floating(top1=0.9, ece=0.01)) == pytest.approx({"top1": 0.1, "ece": 0.01})


def test_metrics_without_a_limit_are_kept_and_those_with_one_are_required() -> None:
    assert TWO.read({"top1": 0.5, "ece": 0.1, "auc": 0.7}).metrics == {"top1": 0.5, "ece": 0.1, "auc": 0.7}
    with pytest.raises(MetricError, match=r"\['ece'\] are missing"):
        TWO.read({"top1": 0.5})
    with pytest.raises(MetricError, match="must return a dict"):
        TWO.read(0.5)
    with pytest.raises(MetricError, match="finite"):
        TWO.read({"top1": 0.5, "ece": float("nan")})


@given(shares, st.floats(0.0, 0.3), shares, shares)
def test_a_floor_holds_whatever_the_drop(metric: float, max_drop: float, below: float, after: float) -> None:
    floor = metric * below
    one = limits(max_drop, floor=floor)
    drop = one.drop(Measurement(after), floating(metric))
    assert one.for_strategies(floating(metric)).passes(drop) == (metric - after <= max_drop and after >= floor)


def test_a_floor_where_lower_is_better_is_a_ceiling() -> None:
    one = limits(10.0, higher=False, floor=2.0)
    limit = one.for_strategies(floating(1.5))
    assert limit.passes(one.drop(Measurement(2.0), floating(1.5)))
    assert not limit.passes(one.drop(Measurement(2.1), floating(1.5)))


def test_a_floor_for_one_of_several_metrics() -> None:
    both = limits({"a": 0.5, "b": 0.5}, floor={"b": 0.7})
    base = floating(a=0.9, b=0.8)
    assert both.drop(several(a=0.9, b=0.71), base) <= 1.0 < both.drop(several(a=0.9, b=0.69), base)


def test_a_floor_that_the_float_model_misses_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"scored 0\.6 and min_metric is 0\.7"):
        limits(0.1, floor=0.7).for_strategies(floating(0.6))


@pytest.mark.parametrize(("float_metric", "metric", "passes"), [(-2.0, -2.2, True), (-2.0, -2.3, False)])
def test_relative_to_a_negative_metric_counts_in_shares_of_its_size(
    float_metric: float, metric: float, passes: bool
) -> None:
    one = limits(0.1 + 1e-12, "relative")
    base = floating(float_metric)
    assert one.for_strategies(base).passes(one.drop(Measurement(metric), base)) is passes


def test_relative_to_zero_is_refused_as_soon_as_the_float_metric_is_known() -> None:
    with pytest.raises(ValidationError, match=r"DropType\.ABSOLUTE"):
        limits(0.1, "relative").for_strategies(floating(0.0))
    with pytest.raises(ValidationError, match=r"DropType\.ABSOLUTE"):
        limits({"a": 0.1, "b": 0.1}, "relative").for_strategies(floating(a=0.5, b=0.0))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"max_drop": {}}, "empty"),
        ({"max_drop": {"a": -0.1}}, "max_drop"),
        ({"max_drop": {"a": 0.1}, "higher": {"b": True}}, r"higher_is_better.*\['b'\]"),
        ({"max_drop": {"a": 0.1}, "floor": {"b": 0.5}}, r"min_metric.*\['b'\]"),
        ({"max_drop": {"a": 0.1}, "floor": 0.5}, "dict by metric"),
        ({"max_drop": 0.1, "floor": float("nan")}, "finite"),
        ({"max_drop": 0.1, "floor": "0.5"}, "finite"),
        ({"max_drop": 0.1, "higher": {"a": True}}, "higher_is_better"),
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(arguments: Any, match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        limits(**arguments)


def test_confidence_is_for_one_metric() -> None:
    with pytest.raises(ValidationError, match="single metric"):
        make_limits({"a": 0.1}, "absolute", True, None, 0.95, 0)
