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
        forms: the int8 ops that depart from the policy, each with how.
    """

    version: str
    plan_key: str
    float_ops: dict[str, str]
    forms: dict[str, str]


def read_provenance(model: Any, names: Collection[str]) -> Provenance | None:
    """The provenance of `model`, None when maxdrop did not make it.

    Args:
        model: an `openvino.Model`; only read.
        names: names of its nodes, which tell a name that holds ": " from the reason behind it.
    """
    if not model.has_rt_info([_ROOT, "plan_key"]):
        return None
    return Provenance(
        version=str(model.get_rt_info([_ROOT, "version"]).value),
        plan_key=str(model.get_rt_info([_ROOT, "plan_key"]).value),
        float_ops=_by_op(model, "float_ops", names),
        forms=_by_op(model, "forms", names),
    )


def _by_op(model: Any, key: str, names: Collection[str]) -> dict[str, str]:
    """The texts under `key`, by op."""
    if not model.has_rt_info([_ROOT, key]):
        return {}
    entries = model.get_rt_info([_ROOT, key]).value
    ordered = sorted(entries.items(), key=lambda item: int(item[0].removeprefix("op")))
    return dict(_split(str(getattr(text, "value", text)), names) for _, text in ordered)


def _split(text: str, names: Collection[str]) -> tuple[str, str]:
    end = text.find(": ")
    while end >= 0 and text[:end] not in names:
        end = text.find(": ", end + 1)
    return (text[:end], text[end + 2 :]) if end >= 0 else (text.partition(": ")[0], text.partition(": ")[2])
