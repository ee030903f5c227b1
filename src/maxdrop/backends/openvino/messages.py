"""What the runtime says when something fails, for people."""

from __future__ import annotations

_PLACES = ("Exception from ", "Check '")


def last_line(error: Exception) -> str:
    """The reason, without the places in the runtime's source that come before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [line for line in lines if not line.startswith(_PLACES)]
    return (reasons or lines or [type(error).__name__])[-1]
