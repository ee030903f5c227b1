"""What was measured to pay is kept for the next call on this machine, so that equal calls give equal plans."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from maxdrop.data.graph import Graph
from maxdrop.data.protocols import Backend
from maxdrop.data.spec import Policy
from maxdrop.ptq.build import Planner
from maxdrop.resolve import as_json
from maxdrop.search.payoff import Payoff, measure_payoff
from maxdrop.version import VERSION

_METHOD = "samples of different sizes in turns, products without zero points, integer sums"
"""What is kept of another way to measure is not taken."""


def cached_payoff(
    planner: Planner, backend: Backend[Any], model: Any, config: Mapping[str, Any], samples: Sequence[Any]
) -> Payoff:
    """`measure_payoff`, or what it returned for the same model, wishes, configuration, runtime and machine.

    The cache lies in `$XDG_CACHE_HOME/maxdrop`, or `~/.cache/maxdrop`; it can be removed at any time. What a busy
    machine blurred is not kept. Where the cache cannot be written, every call measures.
    """
    path = _path(planner.graph, planner.policy, backend, config)
    try:
        return Payoff.model_validate_json(path.read_text())
    except (OSError, ValidationError):
        payoff = measure_payoff(planner, backend, model, config, samples)
    if not payoff.is_certain:
        return payoff
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(payoff.model_dump_json(indent=1))
        part.replace(path)
    except OSError:
        return payoff  # a read-only home is no reason to fail
    return payoff


def is_cached(graph: Graph, policy: Policy, backend: Backend[Any], config: Mapping[str, Any]) -> bool:
    """Whether `cached_payoff` need not measure."""
    return _path(graph, policy, backend, config).is_file()


def _path(graph: Graph, policy: Policy, backend: Backend[Any], config: Mapping[str, Any]) -> Path:
    return _folder() / f"payoff-{_key(graph, policy, backend, config)}.json"


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "maxdrop"


def _key(graph: Graph, policy: Policy, backend: Backend[Any], config: Mapping[str, Any]) -> str:
    content = {
        "graph": graph.fingerprint,
        "policy": policy.model_dump(mode="json"),
        "config": as_json(config),
        "versions": {"maxdrop": VERSION, **backend.versions},
        "machine": backend.machine,
        "method": _METHOD,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
