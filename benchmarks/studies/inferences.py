"""What does `quantize` cost, counted in inferences of the float model?

`python -m benchmarks.studies.inferences resnet50 vit-b bert-base --samples 300` quantizes with 300 samples and runs the
float model on the same 300, in turns; what was measured to pay is measured anew each round. The model is compiled with
default arguments and run one inference after the other; reading and transforming the samples counts on both sides.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
import openvino as ov

import maxdrop as md
from benchmarks.studies.output import grid, say, write_json
from benchmarks.task import load_task


def measure(name: str, samples: int, rounds: int) -> dict[str, Any]:
    """Seconds of both, by round."""
    task = load_task(name)
    items = list(task.split(0).calibration)[:samples]
    quantizing, running = [], []
    for number in range(rounds):
        model = ov.Core().read_model(task.model())
        with (
            tempfile.TemporaryDirectory() as cache,
            patch.dict(os.environ, XDG_CACHE_HOME=cache),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", "nothing in this model is worth int8")
            start = time.perf_counter()
            md.quantize(model, md.Dataset(items, task.transform), progress=False)
            quantizing.append(time.perf_counter() - start)
        request = ov.Core().compile_model(task.model(), "CPU").create_infer_request()
        request.infer(task.transform(items[0]))
        start = time.perf_counter()
        for item in items:
            request.infer(task.transform(item))
        running.append(time.perf_counter() - start)
        say(f"{name} {number + 1}/{rounds}: {quantizing[-1]:.2f} s, {running[-1]:.2f} s")
    return {"task": name, "samples": len(items), "quantize": quantizing, "inferences": running}


def show(records: Sequence[dict[str, Any]]) -> str:
    """The table as Markdown."""
    rows = []
    for record in records:
        quantize, inferences = np.array(record["quantize"]), np.array(record["inferences"])
        ratios = quantize / inferences
        rows.append(
            [
                record["task"],
                str(record["samples"]),
                f"{np.median(inferences) / record['samples'] * 1000:.1f}",
                f"{np.median(quantize):.2f}",
                f"{np.median(ratios):.2f} [{ratios.min():.2f}, {ratios.max():.2f}]",
            ]
        )
    head = ["task", "samples", "ms per inference", "quantize, s", "to the inferences, median [least, most]"]
    return grid(head, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args(arguments)
    records = [measure(name, chosen.samples, chosen.rounds) for name in chosen.tasks]
    write_json("inferences-" + "-".join(chosen.tasks), {"tasks": records})
    print(show(records))


if __name__ == "__main__":
    main()
