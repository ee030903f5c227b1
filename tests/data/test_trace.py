from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxdrop.data.plan import Candidate
from maxdrop.data.spec import Precision
from maxdrop.data.trace import Note, Trace, TraceHeader, Trial, read_trace
from maxdrop.errors import TraceError

HEADER = TraceHeader(versions={"maxdrop": "1"}, model="f" * 64, settings={"max_drop": 0.01, "seed": 0})

numbers = st.floats(allow_nan=False)
finite = st.floats(allow_nan=False, allow_infinity=False)
trials = st.builds(
    Trial,
    number=st.integers(0, 99),
    role=st.sampled_from(["float", "int8", "search", "prune"]),
    candidate=st.none() | st.just(Candidate(precisions={"an op": Precision.FLOAT})),
    plan_key=st.sampled_from(["", "a", "b"]),
    state=st.sampled_from(["complete", "failed"]),
    metric=st.none() | numbers,
    drop=st.none() | numbers,
    per_item=st.none() | st.lists(numbers, max_size=3).map(tuple),
    error=st.none() | st.text(max_size=20),
)
notes = st.builds(Note, name=st.sampled_from(["n", "m"]), content=st.dictionaries(st.text(max_size=3), finite))
records = st.lists(trials | notes, max_size=8)


@pytest.fixture(autouse=True)
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts what would be forced to disk; really forcing it would take most of the time of these tests."""
    calls: list[int] = []
    monkeypatch.setattr("maxdrop.data.trace.os.fsync", calls.append)
    return calls


def _write(path: Path, made: list[Trial | Note]) -> Trace:
    path.unlink(missing_ok=True)
    trace = Trace(path, HEADER)
    for record in made:
        trace.add(record)
    return trace


@given(made=records)
@settings(max_examples=40)
def test_reading_gives_back_what_was_added(made: list[Trial | Note], tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    written = _write(path, made)
    read = Trace(path, HEADER)
    assert read.trials == written.trials == [r for r in made if isinstance(r, Trial)]
    assert read.notes == written.notes
    header, found, content = read_trace(path)
    assert header["model"] == HEADER.model
    assert (found, content) == (written.trials, written.notes)


def test_every_record_is_forced_to_disk(synced: list[int], tmp_path: Path) -> None:
    trial = Trial(number=0, role="int8", candidate=Candidate())
    _write(tmp_path / "trace.jsonl", [trial, Note(name="n"), trial])
    assert len(synced) == 4


@given(made=records, data=st.data())
@settings(max_examples=60)
def test_a_torn_tail_is_cut_and_the_rest_kept(made: list[Trial | Note], data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    _write(path, made)
    whole = path.read_bytes()
    length = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:length])
    lines = max(whole[:length].count(b"\n") - 1, 0)
    kept = made[:lines]
    trace = Trace(path, HEADER)
    assert trace.trials == [r for r in kept if isinstance(r, Trial)]
    for record in made[lines:]:
        trace.add(record)
    assert path.read_bytes() == whole


@given(made=st.lists(trials, min_size=2, max_size=5), data=st.data())
@settings(max_examples=60)
def test_damage_before_the_last_line_is_an_error(made: list[Trial], data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    _write(path, list(made))
    content = bytearray(path.read_bytes())
    last = content[:-1].rfind(b"\n")  # where this line break is damaged, the last two lines look like a torn one
    position = data.draw(st.integers(0, last - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    with pytest.raises(TraceError, match="damaged"):
        Trace(path, HEADER)
    assert path.read_bytes() == bytes(content)


def test_a_file_without_a_whole_record_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"")
    Trace(path, HEADER)
    assert read_trace(path)[0]["record"] == "header"


def test_reading_a_file_without_records_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"abc")
    with pytest.raises(TraceError, match="no whole record"):
        read_trace(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": "e" * 64}, r"model: was 'ffff.*now 'eeee"),
        ({"settings": {"max_drop": 0.02, "seed": 0}}, r"settings: max_drop was 0\.01, now 0\.02"),
        ({"settings": {"max_drop": 0.01}}, r"settings: seed was 0, now None"),
        ({"versions": {"maxdrop": "2"}}, r"versions: maxdrop was '1', now '2'"),
    ],
)
def test_another_search_is_refused_by_what_differs(change: dict[str, object], expected: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    _write(path, [])
    before = path.read_bytes()
    with pytest.raises(TraceError, match=expected) as caught:
        Trace(path, HEADER.model_copy(update=change))
    unchanged = {"model", "settings", "versions"} - set(change)
    assert not any(f"{key}:" in str(caught.value) for key in unchanged)
    assert path.read_bytes() == before


def test_find_ignores_failed_trials() -> None:
    trace = Trace(None, HEADER)
    failed = Trial(number=0, role="search", candidate=None, plan_key="k", state="failed", error="boom")
    passed = failed.model_copy(update={"number": 1, "state": "complete", "metric": 0.5})
    trace.add(failed)
    assert trace.find("k") is None
    trace.add(passed)
    trace.add(passed.model_copy(update={"number": 2}))
    assert trace.find("k") == passed
    assert trace.find("other") is None


def test_undefined_numbers_survive(tmp_path: Path) -> None:
    """A per-item metric may be undefined for an item; the search must be resumable all the same."""
    path = tmp_path / "trace.jsonl"
    trial = Trial(number=0, role="int8", candidate=None, per_item=(0.5, float("nan"), float("-inf")))
    _write(path, [trial])
    (found,) = Trace(path, HEADER).trials
    assert repr(found.per_item) == repr(trial.per_item)


def test_a_record_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    _write(path, [])
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(TraceError, match="trials and notes"):
        Trace(path, HEADER)


def test_copying(tmp_path: Path) -> None:
    path, copy = tmp_path / "trace.jsonl", tmp_path / "copy.jsonl"
    trial = Trial(number=0, role="int8", candidate=Candidate(), metric=0.5)
    trace = _write(path, [trial, Note(name="n", content={"a": 1.0})])
    before = path.read_bytes()
    trace.copy_to(path)
    assert path.read_bytes() == before
    trace.copy_to(copy)
    assert read_trace(copy) == read_trace(path)


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Trace(None, HEADER).add(Trial(number=0, role="int8", candidate=Candidate()))
    assert not list(tmp_path.iterdir())
