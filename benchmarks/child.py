"""Runs one spec in a fresh process: with a time limit, its memory watched, and every way to fail reported."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.worker import record_path

_POLL_SECONDS = 0.05
_LOG_LINES = 8
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Outcome:
    """How a child process ended.

    Attributes:
        status: `ok`, `crash`, `timeout`, `wrong` (a model that is not what was asked for) or `skipped`.
        record: What the child wrote.
        peak_bytes: The most resident memory of its process tree.
        elapsed: Seconds from start to end of the process.
        message: Why it failed: the end of its log.
    """

    status: str
    record: dict[str, Any] = field(default_factory=dict)
    peak_bytes: int = 0
    elapsed: float = 0.0
    message: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def run_child(name: str, spec: dict[str, Any], folder: Path, limit_seconds: float) -> Outcome:
    """Runs `benchmarks.worker` on a spec, and never raises for what the child does."""
    spec_path, log_path = folder / f"{name}.json", folder / f"{name}.log"
    spec_path.write_text(json.dumps(spec, indent=1))
    record_path(spec_path).unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.worker", str(spec_path)]
    start = time.perf_counter()
    with log_path.open("w") as log, tempfile.TemporaryDirectory(prefix="maxdrop-bench-") as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache}  # a tool that remembers earlier runs would not be timed
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=_ROOT, env=environment, start_new_session=True)
        peak, stopped = _watch(process, start + limit_seconds)
    elapsed = time.perf_counter() - start
    if stopped:
        return Outcome("timeout", {}, peak, elapsed, f"stopped after {limit_seconds:g} s")
    if process.returncode != 0 or not record_path(spec_path).exists():
        tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-_LOG_LINES:])
        return Outcome("crash", {}, peak, elapsed, f"exit code {process.returncode}\n{tail}")
    record = json.loads(record_path(spec_path).read_text())
    if "wrong" in record:
        return Outcome("wrong", {}, peak, elapsed, record["wrong"])
    return Outcome("ok", record, max(peak, record.get("memory_process_bytes", 0)), elapsed)


def _watch(process: "subprocess.Popen[bytes]", deadline: float) -> tuple[int, bool]:
    """Waits for the process; returns the peak memory of its tree and whether it had to be stopped."""
    peak = 0
    try:
        while process.poll() is None:
            peak = max(peak, _tree_bytes(process.pid))
            if time.perf_counter() > deadline:
                return peak, True
            time.sleep(_POLL_SECONDS)
        return peak, False
    finally:
        _stop_group(process)


def _tree_bytes(pid: int) -> int:
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for member in tree:
        try:
            total += member.memory_info().rss
        except psutil.Error:
            continue
    return total


def _stop_group(process: "subprocess.Popen[bytes]") -> None:
    """Ends whatever is left of the child's own session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
