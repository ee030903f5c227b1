from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_mini_finds_the_layers_that_must_stay_float(capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(EXAMPLES / "mini.py"))
    example["main"]()
    first = capsys.readouterr().out
    drops = {floats: float(drop) for drop, floats in re.findall(r"trial \d+: drop (\S+), float: (.*)", first)}
    assert drops["all"] == 0.0
    assert drops["none"] > 0.03
    assert drops["layer2, layer5"] <= 0.03
    best = re.search(r"best:  drop (\S+) of 0.03 allowed, (\S+)x", first)
    assert best is not None
    assert float(best[1]) <= 0.03
    assert float(best[2]) > 1.5
    example["main"]()
    assert capsys.readouterr().out == first
