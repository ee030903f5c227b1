"""What a quantized model says about itself: the facts that `apply_plan` writes into it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

_ROOT = "maxdrop"


@dataclass(frozen=True)
class Provenance:
    """How a model was made.

    Attributes:
        version: of maxdrop.
        plan_key: key of the plan it follows.
        float_ops: the ops that stayed float, each with the reason.
    """

    version: str
    plan_key: str
    float_ops: dict[str, str]


def read_provenance(model: Any, names: Collection[str]) -> Provenance | None:
    """The provenance of `model`, None when maxdrop did not make it.

    Args:
        model: an `openvino.Model`; only read.
        names: names of its nodes, which tell a name that holds ": " from the reason behind it.
    """
    if not model.has_rt_info([_ROOT, "plan_key"]):
        return None
    entries: dict[str, str] = {}
    if model.has_rt_info([_ROOT, "float_ops"]):
        entries = model.get_rt_info([_ROOT, "float_ops"]).value
    ordered = sorted(entries.items(), key=lambda item: int(item[0].removeprefix("op")))
    return Provenance(
        version=str(model.get_rt_info([_ROOT, "version"]).value),
        plan_key=str(model.get_rt_info([_ROOT, "plan_key"]).value),
        float_ops=dict(_split(str(getattr(text, "value", text)), names) for _, text in ordered),
    )


def _split(text: str, names: Collection[str]) -> tuple[str, str]:
    end = text.find(": ")
    while end >= 0 and text[:end] not in names:
        end = text.find(": ", end + 1)
    return (text[:end], text[end + 2 :]) if end >= 0 else (text.partition(": ")[0], text.partition(": ")[2])
