"""The log of a search: a header, then one record for each trial, appended before the next one starts.

Each line is JSON with a checksum in front. A torn last line, left by a crash, is dropped on reading; a damaged
line anywhere else is an error, because what follows it could not be trusted.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from maxdrop.data.plan import Candidate
from maxdrop.data.schema import SCHEMA_VERSION, Frozen
from maxdrop.errors import TraceError


class TraceHeader(Frozen):
    """What must be equal for a search to be continued.

    Attributes:
        versions: of maxdrop and the runtime.
        model: fingerprint of the float model.
        settings: everything the caller chose, as JSON.
    """

    record: Literal["header"] = "header"
    schema_version: int = SCHEMA_VERSION
    versions: dict[str, str]
    model: str
    settings: dict[str, Any]


Role = Literal["float", "int8", "search", "prune"]


class Evidence(Frozen):
    """Why a candidate was rejected before all validation items were scored.

    Attributes:
        test: "bound" when no outcome of the other items could save it, "betting" when that is improbable.
        items: number of items that were scored.
        of: number of all items.
        text: the same for people.
    """

    test: Literal["bound", "betting"]
    items: int
    of: int
    text: str


class Trial(Frozen):
    """One evaluated candidate.

    Attributes:
        role: what the trial was for.
        candidate: None for the float model itself.
        plan_key: key of the plan it was built from; empty for the float model.
        state: whether it ended with a metric; "rejected" when some items were enough to see that it fails.
        metric: as the user's function returned it; of several metrics the first one of the limit.
        metrics: all of them, where the user's function returned several.
        drop: loss against the float model in the terms of the limit; positive is worse. With several metrics the
            largest share of a limit that is used up; of a rejected candidate the drop on the items it was scored on.
        upper: upper end of the drop's interval, where the limit is on that.
        per_item: one number for each validation item, where the user's function gave them.
        evidence: of a rejected candidate.
        seconds: wall time of building, compiling and scoring.
        error: type and text of what the user's function raised.
    """

    record: Literal["trial"] = "trial"
    number: int
    role: Role
    candidate: Candidate | None
    plan_key: str = ""
    state: Literal["complete", "rejected", "failed"] = "complete"
    metric: float | None = None
    metrics: dict[str, float] | None = None
    drop: float | None = None
    upper: float | None = None
    per_item: tuple[float, ...] | None = None
    evidence: Evidence | None = None
    seconds: float = 0.0
    error: str | None = None

    @property
    def bound(self) -> float | None:
        """What is compared with the limit: the upper end of the drop's interval where it was asked for."""
        return self.drop if self.upper is None else self.upper

    @property
    def validations(self) -> float:
        """Share of the validation items that were scored."""
        if self.state == "failed":
            return 0.0
        return 1.0 if self.evidence is None else self.evidence.items / self.evidence.of


class Note(Frozen):
    """An intermediate result that a resumed search must not compute again, such as the sensitivities."""

    record: Literal["note"] = "note"
    name: str
    content: dict[str, Any] = Field(default_factory=dict)


class Trace:
    """An append-only log, in memory or on disk.

    Args:
        path: file to append to; None keeps the log in memory only.
        header: written to a new file, and compared with the one in an existing file.

    Raises:
        TraceError: when the file belongs to another search, or is damaged before its end.
    """

    def __init__(self, path: Path | None, header: TraceHeader) -> None:
        self.path = path
        self.header = header
        self.trials: list[Trial] = []
        self.notes: dict[str, dict[str, Any]] = {}
        if path is None or not path.exists() or not self._replay(path):
            self._append(header)

    def add(self, record: Trial | Note) -> None:
        """Append a record and make sure that it is on disk."""
        self._append(record)
        self._remember(record)

    def find(self, plan_key: str) -> Trial | None:
        """The finished trial of the plan with this key, if there is one."""
        hits = (t for t in self.trials if t.state != "failed" and t.plan_key == plan_key)
        return next(hits, None)

    def copy_to(self, path: Path) -> None:
        """Write the whole log to `path`, unless it lives there already."""
        if self.path is not None and path.exists() and path.samefile(self.path):
            return
        path.unlink(missing_ok=True)
        copy = Trace(path, self.header)
        notes = [Note(name=name, content=content) for name, content in self.notes.items()]
        for trial in self.trials:
            copy.add(trial)
        for note in notes:
            copy.add(note)

    def _remember(self, record: Trial | Note) -> None:
        if isinstance(record, Trial):
            self.trials.append(record)
        else:
            self.notes[record.name] = record.content

    def _append(self, record: Frozen) -> None:
        if self.path is None:
            return
        body = record.model_dump_json()
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{zlib.crc32(body.encode()):08x} {body}\n")
            file.flush()
            os.fsync(file.fileno())

    def _replay(self, path: Path) -> bool:
        """Read an existing file; False when it holds no whole record yet."""
        records = _read_records(path)
        if not records:
            return False
        _check_header(records[0], self.header, path)
        for record in records[1:]:
            self._remember(_parse(record, path))
        return True


def read_trace(path: Path) -> tuple[dict[str, Any], list[Trial], dict[str, dict[str, Any]]]:
    """Header, trials and notes of a trace on disk, without continuing it.

    Raises:
        TraceError: when the file holds no trace.
    """
    records = _read_records(path)
    if not records:
        message = f"{path} must begin with a trace header, but holds no whole record"
        raise TraceError(message)
    parsed = [_parse(record, path) for record in records[1:]]
    trials = [record for record in parsed if isinstance(record, Trial)]
    return records[0], trials, {r.name: r.content for r in parsed if isinstance(r, Note)}


def _parse(record: dict[str, Any], path: Path) -> Trial | Note:
    kinds: dict[str, type[Trial] | type[Note]] = {"trial": Trial, "note": Note}
    kind = kinds.get(str(record.get("record")))
    if kind is None:
        message = f"{path} must hold trials and notes after its header, but holds {record.get('record')!r}"
        raise TraceError(message)
    try:
        return kind.model_validate_json(json.dumps(record))
    except ValidationError as error:
        raise TraceError(f"{path} holds a record that this version cannot read: {error}") from error


def _read_records(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    records: list[dict[str, Any]] = []
    offset = 0
    while offset < len(data):
        end = data.find(b"\n", offset)
        line = data[offset : end if end >= 0 else len(data)]
        if end < 0 or not _is_whole(line):
            _cut_torn_tail(path, data, offset, end)
            break
        records.append(json.loads(line[9:]))
        offset = end + 1
    return records


def _is_whole(line: bytes) -> bool:
    return line[8:9] == b" " and line[:8] == b"%08x" % zlib.crc32(line[9:])


def _cut_torn_tail(path: Path, data: bytes, offset: int, end: int) -> None:
    if 0 <= end < len(data) - 1:
        message = f"{path} is damaged at byte {offset}, before its last line; remove the folder to start afresh"
        raise TraceError(message)
    with path.open("r+b") as file:
        file.truncate(offset)


def _check_header(found: dict[str, Any], expected: TraceHeader, path: Path) -> None:
    wanted = json.loads(expected.model_dump_json())
    if found == wanted:
        return
    differing = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
    details = "; ".join(f"{key}: {_difference(found.get(key), wanted.get(key))}" for key in differing)
    message = (
        f"{path} belongs to another search ({details}). Give another output folder, or remove this one to start afresh"
    )
    raise TraceError(message)


def _difference(found: object, wanted: object) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted(k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k))
        return ", ".join(f"{k} {_difference(found.get(k), wanted.get(k))}" for k in keys)
    return f"was {found!r}, now {wanted!r}"
