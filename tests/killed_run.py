"""One controlled run in a process of its own, for the test that kills it. Usage: FOLDER LOG."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import openvino as ov

import maxdrop as md
from maxdrop import demo
from tests.small_task import MAX_DROP, accuracy, coarse, datasets


def main(folder: Path, log: Path) -> None:
    """Run, and log the start and end of every full validation."""

    def logged(compiled: ov.CompiledModel, items: Iterable[Any]) -> tuple[float, list[float]]:
        with log.open("a") as file:
            file.write("start\n")
        result = accuracy(compiled, items)
        with log.open("a") as file:
            file.write("end\n")
        return result

    md.control_accuracy(
        demo.load_model(),
        *datasets(),
        logged,
        max_drop=MAX_DROP,
        advanced_quantization_parameters=coarse(),
        output_dir=folder,
        allow_slower=True,
        placement="table",  # timing decides nothing here
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
