"""Accuracy control: calibrate, score float and int8, rank, search, return the best."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maxdrop.data.plan import Candidate, QuantizationPlan
from maxdrop.data.spec import Precision
from maxdrop.data.trace import Note, Trace, TraceHeader, Trial
from maxdrop.dataset import Dataset
from maxdrop.errors import ParameterNotSupportedError, ValidationError
from maxdrop.executors.serial import SerialExecutor
from maxdrop.options import AdvancedAccuracyRestorerParameters, RestoreMode
from maxdrop.preparation import Calibration, Prepared, calibrate, find_payoff, make_planner
from maxdrop.progress import ProgressReporter
from maxdrop.ptq.build import Planner
from maxdrop.resolve import QuantizeOptions, as_json
from maxdrop.result import AccuracyControlResult
from maxdrop.search.confidence import drop_interval
from maxdrop.search.criterion import Criterion, read_metric
from maxdrop.search.loop import Budget, best_passing, run_search
from maxdrop.search.payoff import Payoff
from maxdrop.search.sensitivity import add_weight_error, measure_sensitivity
from maxdrop.search.space import SearchSpace
from maxdrop.search.speed import Comparison, compare
from maxdrop.search.strategies import STRATEGIES
from maxdrop.version import VERSION

_REPEATABLE = "repeatable"
_PAYOFF = "payoff"
_REPEATED_ITEMS = 16
_LATENCY_BLOCKS = 15

RANKING_SAMPLES = 4
"""Samples that rank the ops: with an exact reference a few suffice."""


@dataclass(frozen=True)
class ControlOptions:
    """What only accuracy control needs."""

    criterion: Criterion
    restorer: AdvancedAccuracyRestorerParameters
    compile_config: Mapping[str, Any]
    deadline: float | None
    output_dir: Path | None
    allow_slower: bool = False


class AccuracyControl:
    """One search.

    Args:
        prepared: the float model and the policy.
        options: of quantization.
        control: of the search.
        progress: where stages are shown.
    """

    def __init__(
        self,
        prepared: Prepared,
        options: QuantizeOptions,
        control: ControlOptions,
        progress: ProgressReporter,
    ) -> None:
        _check_restorer(control.restorer)
        self._prepared = prepared
        self._options = options
        self._control = control
        self._progress = progress

    def run(self, calibration: Dataset, validation: Dataset, validate: Any) -> AccuracyControlResult:
        """Search and return the best model; see `maxdrop.control_accuracy`."""
        _check_datasets(calibration, validation)
        trace = self._open_trace(calibration, validation)
        folder = self._control.output_dir
        cache = None if folder is None else folder / "stats.npz"
        calibrated = calibrate(self._prepared, calibration, self._options.subset_size, self._progress, cache)
        planner = make_planner(self._prepared, calibrated, self._payoff(calibrated, trace))
        executor = SerialExecutor(
            self._prepared.backend,
            self._prepared.model,
            planner,
            lambda compiled: self._score(validate, compiled, validation),
            self._control.compile_config,
            self._control.criterion,
            trace,
        )
        floating = self._score_float(executor, validate, validation, trace)
        best, int8, reason = None, None, "nothing in this model is worth int8 on this target"
        if planner.int8_ops:
            best, int8, reason = self._search(executor, planner, trace, calibration)
        return self._result(planner, trace, floating, best, int8, reason, calibration)

    def _payoff(self, calibrated: Calibration, trace: Trace) -> Payoff:
        """What int8 pays on: measured once for a trace, because another measurement could decide otherwise."""
        if _PAYOFF not in trace.notes:
            payoff = find_payoff(self._prepared, calibrated, self._control.compile_config, self._progress)
            trace.add(Note(name=_PAYOFF, content=payoff.model_dump(mode="json")))
        return Payoff.model_validate(trace.notes[_PAYOFF])

    def _score(self, validate: Any, compiled: Any, validation: Dataset) -> Any:
        length = validation.get_length()
        with self._progress.stage("validating", length) as tick:
            return validate(compiled, _Counted(validation, tick))

    def _score_float(self, executor: SerialExecutor[Any], validate: Any, validation: Dataset, trace: Trace) -> Trial:
        """The float trial; the first time, also whether equal calls give equal metrics."""
        floating = executor.score_float()
        if _REPEATABLE not in trace.notes:
            compiled = self._prepared.backend.compile(self._prepared.model, self._control.compile_config)
            trace.add(Note(name=_REPEATABLE, content=compare_two_calls(validate, compiled, validation)))
        return floating

    def _search(
        self, executor: SerialExecutor[Any], planner: Planner, trace: Trace, calibration: Dataset
    ) -> tuple[Trial | None, Trial | None, str]:
        """The best trial, the trial of the fully quantized model, and why the search ended."""
        criterion = self._control.criterion
        int8: Trial | None = None
        try:
            int8 = executor.run(Candidate(), "int8")
            self._save_intermediate(planner)
            if int8.drop is not None and criterion.passes(int8.drop):
                return int8, int8, "the fully quantized model is within the limit"
            space = self._space(planner, trace, calibration, int8)
        except KeyboardInterrupt:
            return None, int8, "interrupted by the user"
        budget = Budget(self._control.restorer.max_num_iterations, self._control.deadline)
        reason = run_search(STRATEGIES["bracket"], space, criterion, executor.run, budget, executor.knows)
        return best_passing(trace.trials, space, criterion), int8, reason

    def _space(self, planner: Planner, trace: Trace, calibration: Dataset, int8: Trial) -> SearchSpace:
        if "sensitivity" not in trace.notes:
            content = self._measure(planner, calibration)
            trace.add(Note(name="sensitivity", content=content))
        only_activations = self._control.restorer.restore_mode is RestoreMode.ONLY_ACTIVATIONS
        macs = {op: self._prepared.graph.node(op).macs for op in planner.int8_ops}
        total = sum(macs.values()) or 1
        return SearchSpace(
            ops=tuple(planner.int8_ops),
            sensitivity=trace.notes["sensitivity"],
            gain={op: count / total for op, count in macs.items()},
            reverted=Precision.INT8_WEIGHTS if only_activations else Precision.FLOAT,
            int8_drop=int8.drop if int8.drop is not None else 0.0,
        )

    def _measure(self, planner: Planner, calibration: Dataset) -> dict[str, float]:
        plan = planner(Candidate())
        size = self._control.restorer.ranking_subset_size or RANKING_SAMPLES
        seen = max(s.count for s in planner.statistics.tensors.values())
        count = min(seen, self._options.subset_size, calibration.get_length() or seen)
        indices = sorted({int(i) for i in np.linspace(0, count - 1, min(size, count, RANKING_SAMPLES))})
        samples = list(calibration.get_inference_data(indices))
        switchable = self._prepared.backend.switchable(self._prepared.model, plan)
        with self._progress.stage("ranking", len(samples) * len(switchable.ops)) as tick:
            raw = measure_sensitivity(switchable, samples, tick)
        return add_weight_error(raw, self._prepared.graph, plan, planner.statistics)

    def _save_intermediate(self, planner: Planner) -> None:
        folder = self._control.restorer.intermediate_model_dir
        if folder is None:
            return
        Path(folder).mkdir(parents=True, exist_ok=True)
        model = self._prepared.backend.apply(self._prepared.model, planner(Candidate()), planner.arrays)
        self._prepared.backend.save(model, Path(folder) / "intermediate_model.xml")

    def _open_trace(self, calibration: Dataset, validation: Dataset) -> Trace:
        header = TraceHeader(
            versions={"maxdrop": VERSION, **self._prepared.backend.versions},
            model=self._prepared.graph.fingerprint,
            settings={
                "policy": self._prepared.policy.model_dump(mode="json"),
                "criterion": self._control.criterion.model_dump(mode="json"),
                "restore_mode": str(self._control.restorer.restore_mode),
                "ranking_subset_size": self._control.restorer.ranking_subset_size,
                "subset_size": self._options.subset_size,
                "compile_config": as_json(self._control.compile_config),
                "calibration_items": calibration.get_length(),
                "validation_items": validation.get_length(),
            },
        )
        folder = self._control.output_dir
        if folder is None:
            return Trace(None, header)
        folder.mkdir(parents=True, exist_ok=True)
        return Trace(folder / "trace.jsonl", header)

    def _build(self, planner: Planner, best: Trial | None, sample: Any) -> tuple[Any, QuantizationPlan, Comparison]:
        """Model, plan and latency of the best trial; of the float model when there is none."""
        floats = dict.fromkeys(planner.int8_ops, Precision.FLOAT)
        candidate = best.candidate if best is not None else None
        plan = planner(candidate if candidate is not None else Candidate().with_precision(floats))
        backend, model = self._prepared.backend, self._prepared.model
        result = backend.apply(model, plan, planner.arrays)
        models = [model] if best is None else [model, result]
        blocks = backend.latency(models, self._control.compile_config, sample, _LATENCY_BLOCKS)
        return result, plan, compare(blocks[0], blocks[-1])

    def _result(
        self,
        planner: Planner,
        trace: Trace,
        floating: Trial,
        best: Trial | None,
        int8: Trial | None,
        reason: str,
        calibration: Dataset,
    ) -> AccuracyControlResult:
        sample = next(iter(calibration.get_inference_data([0])))
        model, plan, latency = self._build(planner, best, sample)
        if best is not None and latency.is_slower and not self._control.allow_slower:
            reason = (
                f"int8 is slower than float here ({latency.speedup:.2f}x); allow_slower=True returns it all the same"
            )
            best = None
            model, plan, latency = self._build(planner, None, sample)
        chosen = best if best is not None else floating
        made = AccuracyControlResult(
            model=model,
            reached=best is not None,
            stop_reason=reason,
            metric=chosen.metric if chosen.metric is not None else float("nan"),
            float_metric=floating.metric if floating.metric is not None else float("nan"),
            drop=chosen.drop if chosen.drop is not None else 0.0,
            int8_drop=int8.drop if int8 is not None else None,
            drop_interval=drop_interval(
                floating.per_item,
                chosen.per_item,
                floating.metric or 0.0,
                chosen.metric or 0.0,
                self._control.criterion,
            ),
            latency=latency,
            plan=plan,
            arrays=planner.arrays,
            trace=trace,
            backend=self._prepared.backend,
        )
        if self._control.output_dir is not None:
            made.save(self._control.output_dir)
        return made


def compare_two_calls(validate: Any, compiled: Any, validation: Dataset) -> dict[str, Any]:
    """Score the first few items twice and warn when the metrics differ.

    A function that cannot score so few items (a correlation, say) is left alone; the note says why.
    """
    few = range(min(_REPEATED_ITEMS, validation.get_length() or _REPEATED_ITEMS))
    try:
        first, second = (read_metric(validate(compiled, validation.get_data(few)))[0] for _ in range(2))
    except Exception as error:  # the user's function may rightly refuse a subset
        return {"checked": False, "reason": f"{type(error).__name__}: {error}"}
    if first != second:
        warnings.warn(
            f"the validation function must return the same metric for the same model and items, but scoring the "
            f"first {len(few)} items twice gave {first} and {second}; the drop cannot be told from this noise. "
            "Fix its seeds, and do not shuffle the validation data",
            stacklevel=5,
        )
    return {"checked": True, "equal": first == second}


class _Counted:
    """Validation items that report how many were taken."""

    def __init__(self, dataset: Dataset, tick: Any) -> None:
        self._items = dataset.get_data()
        self._tick = tick

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Any:
        for number, item in enumerate(self._items):
            self._tick(number)
            yield item


def _check_restorer(restorer: AdvancedAccuracyRestorerParameters) -> None:
    if restorer.tune_hyperparams:
        message = "tune_hyperparams=True is not supported by this version; leave it at False"
        raise ParameterNotSupportedError(message)
    for name in ("max_num_iterations", "ranking_subset_size", "num_ranking_workers"):
        value = getattr(restorer, name)
        if value is not None and value < (0 if name == "max_num_iterations" else 1):
            message = f"`{name}` must be positive, but got {value}"
            raise ValidationError(message)


def _check_datasets(calibration: Dataset, validation: Dataset) -> None:
    for name, dataset in (("calibration", calibration), ("validation", validation)):
        if dataset.is_one_shot:
            message = (
                f"the {name} dataset must be iterable more than once, but its source is a one-shot iterator; "
                "pass a list, or a function that returns a fresh iterator"
            )
            raise ValidationError(message)
        if next(iter(dataset.get_data()), None) is None and next(iter(_peek(dataset)), None) is None:
            message = f"the {name} dataset must hold at least one item, but iterating it gave none"
            raise ValidationError(message)


def _peek(dataset: Dataset) -> list[int]:
    """[1] when the source yields something, even if that is None."""
    return [1 for _, _ in zip(dataset.get_data(), range(1), strict=False)]
