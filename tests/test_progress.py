"""Progress: stages, the bracket and the time left on a terminal; nothing in pipes."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from maxdrop.data.plan import Candidate
from maxdrop.data.spec import Precision
from maxdrop.data.trace import Evidence, Trial
from maxdrop.progress import ProgressReporter
from maxdrop.search.budget import Budget
from maxdrop.search.limits import Limits, make_limits
from maxdrop.search.standing import standing

LIMITS: Limits = make_limits(0.01, "absolute", True, None, None, 0)
SOURCE = """
import sys
from maxdrop.progress import ProgressReporter
reporter = ProgressReporter({enabled})
with reporter.stage("calibrating", 4) as tick:
    for done in range(5):
        tick(done)
reporter.follow(lambda: "best passing: 3 ops reverted")
with reporter.stage("validating", 2) as tick:
    tick(1)
print("result")
"""


def trial(number: int, drop: float, floats: int, seconds: float = 10.0, seen: int | None = None) -> Trial:
    """A trial with the first few ops in float; of `seen` of 100 items."""
    candidate = Candidate().with_precision({f"op{i}": Precision.FLOAT for i in range(floats)})
    evidence = None if seen is None else Evidence(test="bound", items=seen, of=100, text="")
    return Trial(
        number=number, role="search", candidate=candidate, drop=drop, seconds=seconds, evidence=evidence,
        state="complete" if seen is None else "rejected", metric=0.9,
    )  # fmt: skip


FLOATING = Trial(number=0, role="float", candidate=None, metric=0.9, drop=0.0, seconds=10.0)


def test_the_line_names_both_ends_of_the_bracket_and_the_time_left() -> None:
    trials = [FLOATING, trial(1, 0.05, 0), trial(2, 0.004, 4), trial(3, 0.02, 2)]
    line = standing(trials, {}, LIMITS, Budget(100, 10))
    assert line == (
        "validation 5 of at most 10 | best passing: 4 ops reverted, drop 0.004 | best failing: 2 ops reverted, "
        "drop 0.02 | about 20 s, at most 60 s left"
    )


def test_the_best_passing_candidate_is_the_fastest_one() -> None:
    slow, fast = trial(1, 0.0, 1), trial(2, 0.001, 3)
    few = standing([FLOATING, slow, fast], {}, LIMITS, Budget(100, 10))
    assert "best passing: 1 op reverted" in few
    precisions = {"cheap": Precision.FLOAT, "free": Precision.FLOAT}
    cheap = fast.model_copy(update={"candidate": Candidate().with_precision(precisions)})
    gain = {"op0": 0.9, "cheap": 0.1, "free": 0.0}
    assert "best passing: 2 ops reverted" in standing([FLOATING, slow, cheap], gain, LIMITS, Budget(100, 10))


def test_a_rejected_candidate_counts_for_what_was_scored_of_it() -> None:
    rejected = trial(1, 0.2, 0, seconds=2.5, seen=25)
    line = standing([FLOATING, rejected], {}, LIMITS, Budget(100, 4))
    assert line.startswith("validation 2 of at most 4 | best passing: float model | best failing: all ops int8")
    assert line.endswith("at most 28 s left")


def test_other_budgets_shorten_what_is_left() -> None:
    assert "of at most 3 " in standing([FLOATING], {}, LIMITS, Budget(1, 10))
    assert standing([FLOATING], {}, LIMITS, Budget(100, 10, deadline=0.0)).endswith("at most 0.0 s left")


def test_before_anything_is_scored_there_is_no_bracket() -> None:
    assert standing([], {}, LIMITS, Budget(100, 10)) == "validation 1 of at most 10"


def test_bars_show_the_stage_the_count_and_the_standing() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    reporter = ProgressReporter(True, console)
    reporter.follow(lambda: "how it stands")
    with reporter.stage("validating", 8) as tick:
        with reporter.stage("held-out items", 4) as inner:
            inner(1)
        tick(3)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in ("how it stands", "validating", "3/8"):
        assert part in text


def test_a_stage_that_fails_does_not_hinder_the_next() -> None:
    reporter = ProgressReporter(True, Console(file=io.StringIO(), force_terminal=True))
    with pytest.raises(RuntimeError), reporter.stage("outer"), reporter.stage("inner"):
        raise RuntimeError
    with reporter.stage("next", 1) as tick:
        tick(1)


def run(enabled: bool | None, on_terminal: bool, folder: Path) -> tuple[str, str]:
    """What a script prints, and what comes on its standard error."""
    master, slave = os.openpty() if on_terminal else os.pipe()
    stderr = slave if on_terminal else subprocess.PIPE
    environment = {**os.environ, "TERM": "xterm", "FORCE_COLOR": "1", "COLUMNS": "100"}
    command = [sys.executable, "-c", SOURCE.format(enabled=enabled)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment, cwd=folder)
    os.close(slave)
    found = b""
    while on_terminal:
        try:
            part = os.read(master, 65536)
        except OSError:  # how the end of a terminal shows itself on Linux
            break
        if not part:
            break
        found += part
    out, err = process.communicate()
    os.close(master)
    text = (found or err or b"").decode()
    return out.decode().strip(), re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def test_a_terminal_sees_progress(tmp_path: Path) -> None:
    out, err = run(None, True, tmp_path)
    assert out == "result"
    assert "calibrating" in err
    assert "4/4" in err
    assert "best passing: 3 ops reverted" in err


def test_a_pipe_sees_nothing_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert run(None, False, tmp_path) == ("result", "")
    assert run(False, True, tmp_path) == ("result", "")
    out, err = run(True, False, tmp_path)
    assert out == "result"
    assert "calibrating" in err
