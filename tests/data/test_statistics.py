from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from maxdrop.data.statistics import Statistics, TensorStatistics, merge_ranges
from maxdrop.errors import ValidationError
from maxdrop.testing.estimator_suite import statistics_of

F32 = NDArray[np.float32]
FIELDS = tuple(TensorStatistics.__dataclass_fields__)

elements = st.floats(-100, 100, width=32)
samples = st.lists(hnp.arrays(np.float32, (4, 3), elements=elements), min_size=1, max_size=4)


@given(samples, samples)
@settings(max_examples=50)
def test_merging_is_concatenating(first: list[F32], second: list[F32]) -> None:
    merged = statistics_of(first).merge(statistics_of(second))
    whole = statistics_of([*first, *second])
    assert merged.count == whole.count
    for key in FIELDS:
        found, expected = getattr(merged, key), getattr(whole, key)
        assert found.dtype == expected.dtype, key
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4, err_msg=key)


@given(samples, samples, samples)
@settings(max_examples=30)
def test_merging_in_any_grouping_is_the_same(first: list[F32], second: list[F32], third: list[F32]) -> None:
    a, b, c = (statistics_of(part) for part in (first, second, third))
    left, right = a.merge(b).merge(c), a.merge(b.merge(c))
    for key in FIELDS:
        np.testing.assert_allclose(getattr(left, key), getattr(right, key), rtol=1e-5, atol=1e-4, err_msg=key)


@given(parts=st.dictionaries(st.text(max_size=8), samples, max_size=3), graph=st.text(max_size=8))
@settings(max_examples=30)
def test_statistics_survive_the_way_to_disk(parts: dict[str, list[F32]], graph: str, tmp_path: Path) -> None:
    made = Statistics({name: statistics_of(part) for name, part in parts.items()}, graph)
    path = tmp_path / "stats.npz"
    made.save(path)
    found = Statistics.load(path)
    assert found.graph == graph
    assert found.tensors.keys() == parts.keys()
    for name in parts:
        assert name in found
        for key in FIELDS:
            read, written = getattr(found[name], key), getattr(made[name], key)
            assert read.dtype == written.dtype
            np.testing.assert_array_equal(read, written)
    assert [p.name for p in tmp_path.iterdir()] == ["stats.npz"]


def test_only_statistics_of_the_same_values_merge() -> None:
    part = statistics_of([np.ones((2, 2), np.float32)])
    with pytest.raises(ValidationError, match="same values"):
        Statistics({"a": part}, "g").merge(Statistics({"b": part}, "g"))
    with pytest.raises(ValidationError, match="same model"):
        Statistics({"a": part}, "g").merge(Statistics({"a": part}, "h"))
    assert Statistics({"a": part}, "g").merge(Statistics({"a": part}, "g"))["a"].count == 2


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_noticed(number: float) -> None:
    good = np.ones((2, 2), np.float32)
    bad = good.copy()
    bad[0, 1] = number
    assert statistics_of([good]).is_finite
    assert not statistics_of([good, bad]).is_finite


@given(st.lists(hnp.arrays(np.float32, (4, 3), elements=elements), min_size=2, max_size=2), samples)
def test_a_common_range_covers_all_parties(one: list[F32], rest: list[F32]) -> None:
    other = [rest[0][:, :2], rest[-1][:, 1:]]
    merged = merge_ranges([statistics_of(one), statistics_of(other)])
    for number, parts in enumerate(zip(one, other, strict=True)):
        values = np.sort(np.concatenate([part.ravel() for part in parts]))
        assert (merged.sample_min[number], merged.sample_max[number]) == (values[0], values[-1])
        np.testing.assert_array_equal(np.sort(merged.rows[merged.row_sample == number].ravel()), values)
    assert (np.diff(merged.row_sample) >= 0).all()
    assert len(merged.channel_min) == len(merged.channel_max) == len(merged.channel_mean) == 1


def test_a_single_party_keeps_its_channels() -> None:
    alone = statistics_of([np.ones((2, 3), np.float32)])
    assert merge_ranges([alone]) is alone
