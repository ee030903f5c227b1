"""Whether this processor's int8 kernels can overflow."""

from __future__ import annotations

import platform
from pathlib import Path

_EXACT = {"avx512_vnni", "avx_vnni", "amx_int8"}


def saturates() -> bool:
    """True on x86 processors without VNNI or AMX, whose int8 products are summed in 16 bits.

    There, int8 weights must stay within 7 bits (OpenVINO documentation, "Saturation (overflow) issue workaround").
    Where the processor cannot be identified, the answer is False.
    """
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return False
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return False
    flags = next((line for line in info.read_text().splitlines() if line.startswith("flags")), "")
    return bool(flags) and not _EXACT & set(flags.split())
