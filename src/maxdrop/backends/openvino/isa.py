"""What this processor's int8 kernels can and cannot do."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

_EXACT = {"avx512_vnni", "avx_vnni", "amx_int8"}


def saturates() -> bool:
    """True on x86 processors without VNNI or AMX, whose int8 products are summed in 16 bits.

    There, int8 weights must stay within 7 bits (OpenVINO documentation, "Saturation (overflow) issue workaround").
    Where the processor cannot be identified, the answer is False.
    """
    flags = _flags()
    return bool(flags) and not _EXACT & flags


def has_int8_tiles() -> bool:
    """Whether int8 products run in AMX tiles."""
    return "amx_int8" in _flags()


@cache
def _flags() -> frozenset[str]:
    """Instruction sets as Linux names them; none where the processor cannot be identified."""
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return frozenset()
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return frozenset()
    return frozenset(next((line for line in info.read_text().splitlines() if line.startswith("flags")), "").split())
