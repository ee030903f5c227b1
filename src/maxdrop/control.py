"""Accuracy control: the phases in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from maxdrop.data.plan import Candidate
from maxdrop.data.spec import Precision
from maxdrop.data.trace import Note, Trace, TraceHeader, Trial
from maxdrop.dataset import Dataset
from maxdrop.delivery import RESULT_TIMINGS, Delivery, deliver
from maxdrop.errors import ValidationError
from maxdrop.executors.choice import ExecutorName, check_executor, make_executor
from maxdrop.executors.materials import Materials
from maxdrop.folders import check_folder
from maxdrop.options import AdvancedAccuracyRestorerParameters, RestoreMode
from maxdrop.payoff_cache import is_cached
from maxdrop.preparation import Prepared, calibrate, find_payoff, keep_what_pays, measure_biases
from maxdrop.progress import ProgressReporter
from maxdrop.ptq.build import Planner
from maxdrop.ptq.payoff import choose_int8
from maxdrop.ptq.sequential_bias import BiasTable
from maxdrop.rates import measure_rates
from maxdrop.resolve import QuantizeOptions, as_json
from maxdrop.result import AccuracyControlResult
from maxdrop.search.budget import Budget, default_max_validations
from maxdrop.search.criterion import Criterion
from maxdrop.search.forecast import NO_EFFORT, NOTHING_TIMED, Forecast, Task, forecast
from maxdrop.search.gain import Objective, Seconds, gain_by_op
from maxdrop.search.holdout import split_holdout
from maxdrop.search.limits import Limits
from maxdrop.search.payoff import Payoff, count_timings
from maxdrop.search.repeatability import REPEATED_ITEMS, compare_two_calls
from maxdrop.search.scoring import Scorer
from maxdrop.search.session import GAIN, Executor, Setup, search
from maxdrop.search.standing import standing
from maxdrop.search.strategies import STRATEGIES, get_strategy
from maxdrop.tuning import Tuner, count_presets, count_retuning
from maxdrop.validation import ValidationItems, check_datasets, check_function, with_progress
from maxdrop.version import VERSION

_PAYOFF = "payoff"
_BIASES = "bias_shifts"
_TIMED_OBJECTIVES = ("latency", "throughput")

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
    max_validations: int | None = None
    holdout: float = 0.0
    strategy: str = "bracket"
    seed: int = 0
    objective: Objective = "latency"
    executor: ExecutorName = "serial"
    workers: int | None = None

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
        if control.output_dir is not None:
            check_folder("output_dir", control.output_dir)
        self._strategy = get_strategy(control.strategy)
        self._prepared = prepared
        self._options = options
        self._control = control
        self._progress = progress

    def run(self, calibration: Dataset, validation: Dataset, validate: Any) -> AccuracyControlResult:
        """Search and return the best model; see `maxdrop.control_accuracy`."""
        check_function(validate)
        check_datasets(calibration, validation)
        kept, held = split_holdout(validation.get_length(), self._control.holdout, self._control.seed)
        items, unseen = ValidationItems(validation, kept), ValidationItems(validation, held)
        trace = self._open_trace(calibration, validation)
        folder, limits = self._control.output_dir, self._control.limits
        cache = None if folder is None else folder / "stats.npz"
        calibrated = calibrate(self._prepared, calibration, self._options.subset_size, self._progress, cache)
        everything = Planner(self._prepared.graph, self._prepared.policy, calibrated.statistics)
        is_known = _PAYOFF in trace.notes or self._is_payoff_cached
        payoff = self._payoff(everything, calibrated.samples, trace)
        planner = keep_what_pays(everything, payoff)
        budget = self._budget(items)
        self._progress.follow(lambda: standing(trace.trials, trace.notes.get(GAIN, {}), limits, budget))
        shown = with_progress(validate, self._progress)
        here, elsewhere = (Scorer(fn, items, limits) for fn in (shown, validate))
        backend, model = self._prepared.backend, self._prepared.model
        materials = Materials(backend, model, planner, self._control.compile_config, trace)
        executor = make_executor(
            self._control.executor, self._control.workers, materials, (here, elsewhere), self._progress.stage
        )
        with closing(executor):
            if self._control.restorer.tune_hyperparams and planner.int8_ops:
                planner = self._tuner(executor, calibration).before_the_search(planner, trace)
                executor.follow(planner)
            biases = self._biases(planner, calibration, trace)
            if biases.shifts:
                planner = planner.with_bias_shifts(biases.arrays)
                executor.follow(planner)
            setup = self._setup(executor, planner, items, calibration, validate, calibrated.samples[0])
            found = search(executor, planner, trace, setup)
        delivery = Delivery(
            replace(materials, planner=found.planner),
            limits,
            self._timing_config,
            self._control.allow_slower or self._control.objective == "size",
            Scorer(shown, unseen, limits) if held else None,
            self._control.deadline,
            None if is_known or self._control.restorer.tune_hyperparams else payoff,
        )
        self._progress.follow(str)
        with self._progress.stage("timing the result"):
            made = deliver(delivery, found, calibrated.samples)
        if folder is not None:
            made.save(folder)
        return made

    def forecast(self, calibration: Dataset, validation: Dataset, validate: Any = None) -> Forecast:
        """What `run` will cost; runs a few inferences, and the user's function on a few items, to time one."""
        check_datasets(calibration, validation)
        kept, held = split_holdout(validation.get_length(), self._control.holdout, self._control.seed)
        items = ValidationItems(validation, kept)
        few = min(REPEATED_ITEMS, items.count or REPEATED_ITEMS)
        score = None if validate is None else lambda compiled: validate(compiled, items.items(range(few)))
        backend, model = self._prepared.backend, self._prepared.model
        known, most = calibration.get_length(), self._options.subset_size
        samples = most if known is None else min(known, most)
        budget = self._budget(items)
        graph, policy = self._prepared.graph, self._prepared.policy
        ops = choose_int8(graph, policy)[0]
        measured = policy.placement == "measured"
        tunes, climbs = self._control.restorer.tune_hyperparams, self._control.strategy in STRATEGIES
        timed_first = measured and not self._is_payoff_cached
        task = Task(
            int8_ops=len(ops),
            calibration_samples=samples,
            validation_items=items.count,
            repeated_items=few,
            held_out_items=len(held),
            ranking_samples=min(self._ranking_size, samples),
            max_validations=budget.max_validations,
            max_evaluations=budget.max_evaluations,
            what_pays=count_timings(graph, ops) if timed_first else NOTHING_TIMED,
            profiled_models=2 if measured and self._control.objective in _TIMED_OBJECTIVES else 0,
            tuning=count_presets(policy, samples) if tunes else NO_EFFORT,
            retuning=count_retuning(len(ops), samples, self._ranking_size) if tunes or climbs else NO_EFFORT,
            result=RESULT_TIMINGS._replace(least=0) if timed_first and not tunes else RESULT_TIMINGS,
        )
        return forecast(task, measure_rates(backend, model, self._timing_config, calibration, score, few))

    def _budget(self, items: ValidationItems) -> Budget:
        control = self._control
        most = control.max_validations
        if most is None:
            most = default_max_validations(items.count)
        return Budget(control.restorer.max_num_iterations, most, control.deadline)

    @property
    def _ranking_size(self) -> int:
        return self._control.restorer.ranking_subset_size or RANKING_SAMPLES

    @property
    def _is_payoff_cached(self) -> bool:
        prepared = self._prepared
        return is_cached(prepared.graph, prepared.policy, prepared.backend, self._timing_config)

    def _payoff(self, planner: Planner, samples: Sequence[Any], trace: Trace) -> Payoff:
        """What int8 pays on: measured once for a trace, because another measurement could decide otherwise."""
        if _PAYOFF not in trace.notes:
            payoff = find_payoff(self._prepared, planner, samples, self._timing_config, self._progress)
            trace.add(Note(name=_PAYOFF, content=payoff.model_dump(mode="json")))
        return Payoff.model_validate(trace.notes[_PAYOFF])

    def _biases(self, planner: Planner, calibration: Dataset, trace: Trace) -> BiasTable:
        """Measured once for a trace, so that a search that goes on makes the same plans."""
        if not planner.policy.sequential_bias_correction:
            return BiasTable(shifts={})
        if _BIASES not in trace.notes:
            subset = self._options.subset_size
            table = measure_biases(self._prepared, planner, calibration, subset, self._progress)
            trace.add(Note(name=_BIASES, content=table.model_dump(mode="json")))
        return BiasTable.model_validate(trace.notes[_BIASES])

    @property
    def _timing_config(self) -> dict[str, Any]:
        """The configuration in which the objective is measured."""
        config = dict(self._control.compile_config)
        return self._prepared.backend.busy(config) if self._control.objective == "throughput" else config

    def _gain(self, planner: Planner, sample: Any) -> dict[str, float]:
        """What each op is worth; timed only where the policy has anything measured."""
        seconds: Seconds | None = None
        timed = self._control.objective in _TIMED_OBJECTIVES
        if timed and self._prepared.policy.placement == "measured":
            backend, model = self._prepared.backend, self._prepared.model
            models = [model, backend.apply(model, planner(Candidate()), planner.arrays)]
            with self._progress.stage("timing ops"):
                floats, int8 = backend.op_seconds(models, self._timing_config, sample, planner.graph)
            seconds = floats, int8
        return gain_by_op(planner.graph, planner.int8_ops, self._control.objective, seconds)

    def _setup(
        self,
        executor: Executor,
        planner: Planner,
        items: ValidationItems,
        calibration: Dataset,
        validate: Any,
        sample: Any,
    ) -> Setup:
        control = self._control
        only_activations = RestoreMode(control.restorer.restore_mode) is RestoreMode.ONLY_ACTIVATIONS
        tuner = self._tuner(executor, calibration)
        climbs = control.strategy in STRATEGIES and not control.restorer.tune_hyperparams
        return Setup(
            strategy=self._strategy,
            limits=control.limits,
            budget=self._budget(items),
            reverted=Precision.INT8_WEIGHTS if only_activations else Precision.FLOAT,
            positions=items.positions,
            seed=control.seed,
            compare_calls=lambda floating: self._compare_calls(items, validate, floating),
            rank=lambda: tuner.rank(planner),
            retune=(lambda sensitivity: tuner.retune(planner, planner.policy, sensitivity)) if climbs else None,
            gain=lambda: self._gain(planner, sample),
            scored_int8=lambda: self._save_intermediate(planner),
        )

    def _compare_calls(self, items: ValidationItems, validate: Any, floating: Trial) -> dict[str, Any]:
        few = min(REPEATED_ITEMS, items.count or REPEATED_ITEMS)
        compiled = self._prepared.backend.compile(self._prepared.model, self._control.compile_config)
        score = partial(validate, compiled, items.items(range(few)))
        return compare_two_calls(score, self._control.limits, few, floating)

    def _tuner(self, executor: Executor, calibration: Dataset) -> Tuner:
        return Tuner(
            self._prepared.backend,
            self._prepared.model,
            self._control.compile_config,
            calibration,
            self._options.subset_size,
            self._ranking_size,
            executor,
            self._progress,
            self._control.deadline,
        )

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
                "objective": control.objective,
                "seed": control.seed,
                "holdout": control.holdout,
                "restore_mode": str(control.restorer.restore_mode),
                "ranking_subset_size": control.restorer.ranking_subset_size,
                "tune_hyperparams": control.restorer.tune_hyperparams,
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


def _check_restorer(restorer: AdvancedAccuracyRestorerParameters) -> None:
    if restorer.restore_mode not in set(RestoreMode):
        message = f"`restore_mode` must be one of {[str(m) for m in RestoreMode]}, but got {restorer.restore_mode!r}"
        raise ValidationError(message)
    for name in ("max_num_iterations", "ranking_subset_size", "num_ranking_workers"):
        value = getattr(restorer, name)
        if value is not None and value < (0 if name == "max_num_iterations" else 1):
            message = f"`{name}` must be positive, but got {value}"
            raise ValidationError(message)


def _check_numbers(control: ControlOptions) -> None:
    check_executor(control.executor, control.workers)
    if control.objective not in get_args(Objective):
        message = f"`objective` must be one of {get_args(Objective)}, but got {control.objective!r}"
        raise ValidationError(message)
    if control.max_validations is not None and not control.max_validations >= 2:
        message = (
            f"`max_validations` must be >= 2, for the float and the fully quantized model, but got "
            f"{control.max_validations}"
        )
        raise ValidationError(message)
    if isinstance(control.seed, bool) or not isinstance(control.seed, int) or control.seed < 0:
        message = f"`seed` must be an integer >= 0, but got {control.seed!r}"
        raise ValidationError(message)
