"""Accuracy control: the phases in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from maxdrop.data.plan import Candidate
from maxdrop.data.spec import Precision
from maxdrop.data.trace import Note, Trace, TraceHeader, Trial
from maxdrop.dataset import Dataset
from maxdrop.delivery import Delivery, deliver
from maxdrop.errors import ParameterNotSupportedError, ValidationError
from maxdrop.executors.serial import SerialExecutor
from maxdrop.options import AdvancedAccuracyRestorerParameters, RestoreMode
from maxdrop.preparation import Prepared, calibrate, find_payoff, keep_what_pays, open_and_resolve
from maxdrop.progress import ProgressReporter
from maxdrop.ptq.build import Planner
from maxdrop.ptq.payoff import choose_int8
from maxdrop.resolve import QuantizeOptions, as_json
from maxdrop.result import AccuracyControlResult
from maxdrop.search.budget import Budget
from maxdrop.search.criterion import Criterion
from maxdrop.search.forecast import Forecast, forecast
from maxdrop.search.holdout import split_holdout
from maxdrop.search.limits import Limits
from maxdrop.search.payoff import Payoff
from maxdrop.search.repeatability import REPEATED_ITEMS, compare_two_calls
from maxdrop.search.scoring import Scorer
from maxdrop.search.sensitivity import add_weight_error, measure_sensitivity
from maxdrop.search.session import Setup, search
from maxdrop.search.strategies import get_strategy
from maxdrop.validation import ValidationItems, check_datasets, with_progress
from maxdrop.version import VERSION

_PAYOFF = "payoff"
_TIMED_BLOCKS = 3

RANKING_SAMPLES = 4
"""Samples that rank the ops: with an exact reference a few suffice."""


@dataclass(frozen=True)
class ControlOptions:
    """What only accuracy control needs; see `maxdrop.control_accuracy`."""

    limit: Criterion | Limits
    restorer: AdvancedAccuracyRestorerParameters
    compile_config: Mapping[str, Any]
    deadline: float | None
    output_dir: Path | None
    allow_slower: bool = False
    max_validations: int = 10
    holdout: float = 0.0
    strategy: str = "bracket"
    seed: int = 0

    @property
    def limits(self) -> Limits:
        """The limits, also where only one was given."""
        if isinstance(self.limit, Limits):
            return self.limit
        return Limits(criteria={"": self.limit}, seed=self.seed)


class AccuracyControl:
    """One search.

    Args:
        prepared: the float model and the policy.
        options: of quantization.
        control: of the search.
        progress: where stages are shown.

    Raises:
        ValidationError, ParameterNotSupportedError: an option is wrong or not honoured.
    """

    def __init__(
        self,
        prepared: Prepared,
        options: QuantizeOptions,
        control: ControlOptions,
        progress: ProgressReporter,
    ) -> None:
        _check_restorer(control.restorer)
        _check_numbers(control)
        self._strategy = get_strategy(control.strategy)
        self._prepared = prepared
        self._options = options
        self._control = control
        self._progress = progress

    def run(self, calibration: Dataset, validation: Dataset, validate: Any) -> AccuracyControlResult:
        """Search and return the best model; see `maxdrop.control_accuracy`."""
        check_datasets(calibration, validation)
        kept, held = split_holdout(validation.get_length(), self._control.holdout, self._control.seed)
        items, unseen = ValidationItems(validation, kept), ValidationItems(validation, held)
        trace = self._open_trace(calibration, validation)
        folder = self._control.output_dir
        cache = None if folder is None else folder / "stats.npz"
        calibrated = calibrate(self._prepared, calibration, self._options.subset_size, self._progress, cache)
        everything = Planner(self._prepared.graph, self._prepared.policy, calibrated.statistics)
        planner = keep_what_pays(everything, self._payoff(everything, calibrated.sample, trace))
        shown = with_progress(validate, self._progress)
        executor = SerialExecutor(
            self._prepared.backend,
            self._prepared.model,
            planner,
            Scorer(shown, items, self._control.limits),
            self._control.compile_config,
            trace,
        )
        found = search(executor, planner, trace, self._setup(planner, items, calibration, validate))
        delivery = Delivery(
            self._prepared.backend,
            self._prepared.model,
            planner,
            trace,
            self._control.limits,
            self._control.compile_config,
            self._control.allow_slower,
            Scorer(shown, unseen, self._control.limits) if held else None,
        )
        made = deliver(delivery, found, next(iter(calibration.get_inference_data([0]))))
        if folder is not None:
            made.save(folder)
        return made

    def forecast(self, calibration: Dataset, validation: Dataset) -> Forecast:
        """What `run` will cost; runs a few inferences to time one."""
        check_datasets(calibration, validation)
        kept, _ = split_holdout(validation.get_length(), self._control.holdout, self._control.seed)
        backend, model = self._prepared.backend, self._prepared.model
        sample = next(iter(calibration.get_inference_data([0])))
        blocks = backend.latency([model], self._control.compile_config, sample, _TIMED_BLOCKS)
        known = calibration.get_length()
        samples = self._options.subset_size if known is None else min(known, self._options.subset_size)
        return forecast(
            int8_ops=len(choose_int8(self._prepared.graph, self._prepared.policy)[0]),
            calibration_samples=samples,
            validation_items=ValidationItems(validation, kept).count,
            ranking_samples=min(self._ranking_size, samples),
            max_validations=self._control.max_validations,
            max_evaluations=self._control.restorer.max_num_iterations,
            seconds_per_forward=float(np.median(blocks)),
        )

    @property
    def _ranking_size(self) -> int:
        return self._control.restorer.ranking_subset_size or RANKING_SAMPLES

    def _payoff(self, planner: Planner, sample: Any, trace: Trace) -> Payoff:
        """What int8 pays on: measured once for a trace, because another measurement could decide otherwise."""
        if _PAYOFF not in trace.notes:
            payoff = find_payoff(self._prepared, planner, sample, self._control.compile_config, self._progress)
            trace.add(Note(name=_PAYOFF, content=payoff.model_dump(mode="json")))
        return Payoff.model_validate(trace.notes[_PAYOFF])

    def _setup(self, planner: Planner, items: ValidationItems, calibration: Dataset, validate: Any) -> Setup:
        control = self._control
        only_activations = RestoreMode(control.restorer.restore_mode) is RestoreMode.ONLY_ACTIVATIONS
        return Setup(
            strategy=self._strategy,
            limits=control.limits,
            budget=Budget(control.restorer.max_num_iterations, control.max_validations, control.deadline),
            reverted=Precision.INT8_WEIGHTS if only_activations else Precision.FLOAT,
            positions=items.positions,
            seed=control.seed,
            compare_calls=lambda floating: self._compare_calls(items, validate, floating),
            rank=lambda: self._rank(planner, calibration),
            scored_int8=lambda: self._save_intermediate(planner),
        )

    def _compare_calls(self, items: ValidationItems, validate: Any, floating: Trial) -> dict[str, Any]:
        few = min(REPEATED_ITEMS, items.count or REPEATED_ITEMS)
        compiled = self._prepared.backend.compile(self._prepared.model, self._control.compile_config)
        score = partial(validate, compiled, items.items(range(few)))
        return compare_two_calls(score, self._control.limits, few, floating)

    def _rank(self, planner: Planner, calibration: Dataset) -> dict[str, float]:
        plan = planner(Candidate())
        seen = max(s.count for s in planner.statistics.tensors.values())
        count = min(seen, self._options.subset_size, calibration.get_length() or seen)
        indices = sorted({int(i) for i in np.linspace(0, count - 1, min(self._ranking_size, count))})
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
        control = self._control
        header = TraceHeader(
            versions={"maxdrop": VERSION, **self._prepared.backend.versions},
            model=self._prepared.graph.fingerprint,
            settings={
                "policy": self._prepared.policy.model_dump(mode="json"),
                "criterion": control.limits.as_setting(),
                "strategy": control.strategy,
                "seed": control.seed,
                "holdout": control.holdout,
                "restore_mode": str(control.restorer.restore_mode),
                "ranking_subset_size": control.restorer.ranking_subset_size,
                "subset_size": self._options.subset_size,
                "compile_config": as_json(control.compile_config),
                "calibration_items": calibration.get_length(),
                "validation_items": validation.get_length(),
            },
        )
        folder = control.output_dir
        if folder is None:
            return Trace(None, header)
        folder.mkdir(parents=True, exist_ok=True)
        return Trace(folder / "trace.jsonl", header)


def predict_cost(
    model: Any, calibration: Dataset, validation: Dataset, options: QuantizeOptions, control: ControlOptions
) -> Forecast:
    """What a search will cost, without starting it; only a few inferences are run, to time one.

    Args:
        model: see `maxdrop.control_accuracy`.
        calibration: see `maxdrop.control_accuracy`.
        validation: its items are counted, not scored.
        options: of quantization.
        control: of the search.
    """
    prepared = open_and_resolve(model, options)
    return AccuracyControl(prepared, options, control, ProgressReporter(False)).forecast(calibration, validation)


def _check_restorer(restorer: AdvancedAccuracyRestorerParameters) -> None:
    if restorer.tune_hyperparams:
        message = "tune_hyperparams=True is not supported by this version; leave it at False"
        raise ParameterNotSupportedError(message)
    if restorer.restore_mode not in set(RestoreMode):
        message = f"`restore_mode` must be one of {[str(m) for m in RestoreMode]}, but got {restorer.restore_mode!r}"
        raise ValidationError(message)
    for name in ("max_num_iterations", "ranking_subset_size", "num_ranking_workers"):
        value = getattr(restorer, name)
        if value is not None and value < (0 if name == "max_num_iterations" else 1):
            message = f"`{name}` must be positive, but got {value}"
            raise ValidationError(message)


def _check_numbers(control: ControlOptions) -> None:
    if not control.max_validations >= 2:
        message = (
            f"`max_validations` must be >= 2, for the float and the fully quantized model, but got "
            f"{control.max_validations}"
        )
        raise ValidationError(message)
    if isinstance(control.seed, bool) or not isinstance(control.seed, int) or control.seed < 0:
        message = f"`seed` must be an integer >= 0, but got {control.seed!r}"
        raise ValidationError(message)
