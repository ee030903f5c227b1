"""A run that is killed again and again ends like one that was left alone."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from maxdrop.data.plan import load_plan
from maxdrop.data.trace import read_trace

ROOT = Path(__file__).parents[1]
KILLS = 10


def start(folder: Path, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.killed_run", str(folder), str(log)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


def test_killed_at_random_moments_it_ends_with_the_same_plan(tmp_path: Path) -> None:
    began = time.monotonic()
    assert start(tmp_path / "calm", tmp_path / "calm.log").wait() == 0
    whole = time.monotonic() - began
    moments = random.Random(7)
    killed = 0
    for _ in range(KILLS):
        process = start(tmp_path / "killed", tmp_path / "killed.log")
        try:
            process.wait(timeout=moments.uniform(0.3, 0.9) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    assert start(tmp_path / "killed", tmp_path / "killed.log").wait() == 0

    assert load_plan(tmp_path / "killed" / "plan.json")[0] == load_plan(tmp_path / "calm" / "plan.json")[0]
    _, calm, _ = read_trace(tmp_path / "calm" / "trace.jsonl")
    _, resumed, _ = read_trace(tmp_path / "killed" / "trace.jsonl")
    assert [(t.candidate, t.metric) for t in resumed] == [(t.candidate, t.metric) for t in calm]
    starts = (tmp_path / "killed.log").read_text().split().count("start")
    undisturbed = (tmp_path / "calm.log").read_text().split().count("start")
    # a kill loses at most the evaluation that is under way, or the two short calls of the repeatability check
    assert starts <= undisturbed + 2 * killed
    assert killed > 0
