"""The base of every JSON-able type: frozen, and unknown keys are refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1


class Frozen(BaseModel):
    """A value object that validates on the way in and never changes afterwards."""

    # JSON has no NaN or infinity; as strings they survive the way to disk and back.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
