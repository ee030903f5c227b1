"""What worker processes gain: `control_accuracy` with each executor, in turn, in fresh processes.

    python -m benchmarks.executors demo --max-drop 0.005 --coarse --rounds 5

`placement` is not "measured", which no executor shares out and which is not the same twice. `--coarse` quantizes so
simply that there is something to search for.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.task import load_task

SIDES = {"serial": ("serial", None), "1 worker": ("processes", 1), "2 workers": ("processes", 2)}


def measure(task_name: str, max_drop: float, coarse: bool, side: str) -> dict[str, Any]:
    """One search in this process."""
    import maxdrop as md
    from maxdrop.options import RangeEstimatorParametersSet

    simple = md.AdvancedQuantizationParameters(
        disable_bias_correction=True,
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        smooth_quant_alphas=md.AdvancedSmoothQuantParameters(matmul=-1),
    )

    task, (executor, workers) = load_task(task_name), SIDES[side]
    split, model = task.split(0), task.model()
    start, before = time.perf_counter(), _cpu()
    result = md.control_accuracy(
        model,
        md.Dataset(split.calibration, task.transform),
        md.Dataset(split.validation),
        task.validate,
        max_drop=max_drop,
        placement="all" if coarse else "table",
        preset=md.QuantizationPreset.PERFORMANCE if coarse else None,
        advanced_quantization_parameters=simple if coarse else None,
        allow_slower=True,
        progress=False,
        executor=executor,  # type: ignore[arg-type]
        workers=workers,
    )
    trials = result.trace.trials
    return {
        "seconds": time.perf_counter() - start,
        "cpu": _cpu() - before,
        "whole": sum(t.seconds for t in trials[:2]),
        "candidates": sum(t.seconds for t in trials[2:]),
        "validations": sum(t.validations for t in trials),
        "result": [result.plan.key(), [(t.plan_key, t.state, t.metric) for t in trials]],
    }


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def main() -> None:
    """Measure all sides and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task")
    parser.add_argument("--max-drop", type=float, default=0.005)
    parser.add_argument("--coarse", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=list(SIDES), help="measure this one here and print JSON")
    given = parser.parse_args()
    if given.side:
        print(json.dumps(measure(given.task, given.max_drop, given.coarse, given.side)))
        return
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for number in range(given.rounds):
        for side in list(SIDES)[:: 1 if number % 2 else -1]:
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.executors", given.task, "--side", side]
            command += ["--max-drop", str(given.max_drop), *(["--coarse"] if given.coarse else [])]
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[side].append(json.loads(out.splitlines()[-1]))
    print("| executor | seconds | float and int8 | candidates | CPU seconds | validations |")
    print("|---|---|---|---|---|---|")
    for side, runs in found.items():
        cells = [_span([run[key] for run in runs]) for key in ("seconds", "whole", "candidates", "cpu")]
        print(f"| {side} | {' | '.join(cells)} | {runs[0]['validations']:.3g} |")
    same = all(run["result"] == found["serial"][0]["result"] for runs in found.values() for run in runs)
    print(f"\nsame trials and plan everywhere: {same}; load average {os.getloadavg()[0]:.1f}")


def _span(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
