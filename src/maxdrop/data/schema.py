"""The base of every JSON-able type: frozen, and unknown keys are refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1


class Frozen(BaseModel):
    """A value object that validates on the way in and never changes afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")
