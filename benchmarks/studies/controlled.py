"""The child's side of a controlled run: tools for `benchmarks.worker` that save the result as a user would."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import openvino as ov

import maxdrop as md
from benchmarks.peers import Job
from benchmarks.studies.hard import control_arguments, nncf_arguments


def control(job: Job) -> ov.Model:
    """`control_accuracy` with the setup, seed, time budget and folder that the job's arguments name."""
    arguments = job.arguments
    last = 0.0

    def validate(compiled: ov.CompiledModel, items: Iterable[Any]) -> Any:
        nonlocal last
        scored = job.validate(compiled, items)
        last = time.perf_counter()
        return scored

    calibration = job.calibration[: int(arguments["calibration"])]
    budget = float(arguments["time_budget"])
    start = time.perf_counter()
    result = md.control_accuracy(
        job.read(),
        md.Dataset(calibration, job.task.transform),
        md.Dataset(job.validation, job.task.transform),
        validate,
        max_drop=job.max_drop,
        compile_config=job.config,
        seed=int(arguments["seed"]),
        time_budget=budget or None,
        progress=False,
        **control_arguments(arguments["setup"]),
    )
    end = time.perf_counter()
    result.save(Path(arguments["folder"]))
    trials = result.trace.trials
    gain = result.trace.notes.get("gain", {})
    job.notes.update(
        reached=result.reached,
        metric=result.metric,
        float_metric=result.float_metric,
        drop=result.drop,
        int8_drop=result.int8_drop,
        stop_reason=result.stop_reason,
        scored_int8=result.int8_drop is not None,
        searched=any(t.role in ("search", "prune") for t in trials),
        candidates=sum(t.role in ("search", "prune") for t in trials),
        validations=sum(t.validations for t in trials),
        kept_float=len(result.reverted),
        given_away=sum(gain.get(op, 0.0) for op in result.reverted) if result.reached else 1.0,
        longest_trial=max((t.seconds for t in trials), default=0.0),
        seconds=end - start,
        seconds_after_last_score=end - last,
    )
    model: ov.Model = result.model
    return model


def control_with_nncf(job: Job) -> ov.Model:
    """NNCF's accuracy control with the setup and folder that the job's arguments name."""
    import nncf

    calibration = job.calibration[: int(job.arguments["calibration"])]
    start = time.perf_counter()
    model: ov.Model = nncf.quantize_with_accuracy_control(
        job.read(),
        nncf.Dataset(calibration, job.task.transform),
        nncf.Dataset(job.validation, job.task.transform),
        job.validate,
        max_drop=job.max_drop,
        **nncf_arguments(job.arguments["setup"]),
    )
    job.notes["seconds"] = time.perf_counter() - start
    ov.save_model(model, Path(job.arguments["folder"]) / "model.xml", compress_to_fp16=False)
    return model
