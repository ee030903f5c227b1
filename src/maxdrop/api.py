"""The public functions: the phases in order, nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from maxdrop.arguments import ControlArguments
from maxdrop.control import AccuracyControl
from maxdrop.data.plan import Candidate
from maxdrop.data.spec import Placement
from maxdrop.dataset import Dataset
from maxdrop.errors import TargetNotReachedError
from maxdrop.executors.choice import ExecutorName
from maxdrop.options import (
    AdvancedAccuracyRestorerParameters,
    AdvancedQuantizationParameters,
    DropType,
    ModelType,
    QuantizationMode,
    QuantizationPreset,
    TargetDevice,
)
from maxdrop.preparation import calibrate, find_payoff, keep_what_pays, measure_biases, open_and_resolve
from maxdrop.progress import ProgressReporter
from maxdrop.ptq.build import Planner
from maxdrop.resolve import QuantizeOptions, refuse_mode
from maxdrop.result import AccuracyControlResult
from maxdrop.scopes import IgnoredScope
from maxdrop.search.forecast import Forecast
from maxdrop.search.gain import Objective

ValidationFunction = Any
"""validate(compiled_model, items) -> float | (float, per-item values)."""


def quantize(
    model: Any,
    calibration_dataset: Dataset,
    *,
    mode: QuantizationMode | None = None,
    preset: QuantizationPreset | None = None,
    target_device: TargetDevice = TargetDevice.ANY,
    subset_size: int = 300,
    fast_bias_correction: bool = True,
    model_type: ModelType | None = None,
    ignored_scope: IgnoredScope | None = None,
    advanced_parameters: AdvancedQuantizationParameters | None = None,
    placement: Placement = "measured",
    compile_config: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> Any:
    """Quantize a model to 8 bits.

    Args:
        model: `openvino.Model`, or path to an .xml or .onnx file; stays as it is.
        calibration_dataset: typical inputs, no labels needed.
        mode: FP8 modes; not supported.
        preset: PERFORMANCE for symmetric activations, MIXED for asymmetric ones; None chooses by tensor.
        target_device: what the model will run on.
        subset_size: most batches to take from the dataset.
        fast_bias_correction: True corrects biases by a formula; False measures the mean error of each op's output on
            40 calibration samples, with the ops in front corrected, and keeps that where the outputs get better.
        model_type: accepted and changes nothing: what transformers need is done by structure in every model.
        ignored_scope: ops that stay float.
        advanced_parameters: fine control.
        placement: "measured" quantizes the ops that become faster by it on this machine, "table" those that
            usually do on the target, "all" every op that can run in int8.
        compile_config: what the model will be compiled with when it is used; "measured" measures with it.
        progress: True or False; None shows progress on a terminal.

    Returns:
        A new model of the same type.

    Raises:
        ValidationError: an argument is wrong, the dataset is empty, or a sample does not fit the model.
        ParameterNotSupportedError: an argument is known but not honoured.
        UnsupportedBackendError: the model is of an unknown kind.
        UnsupportedModelError: the model is quantized already.
    """
    refuse_mode(mode)
    options = QuantizeOptions(
        preset, target_device, subset_size, fast_bias_correction, model_type, ignored_scope,
        advanced_parameters, placement,
    )  # fmt: skip
    prepared = open_and_resolve(model, options)
    reporter = ProgressReporter(progress)
    calibration = calibrate(prepared, calibration_dataset, subset_size, reporter)
    everything = Planner(prepared.graph, prepared.policy, calibration.statistics)
    payoff = find_payoff(prepared, everything, calibration.samples, dict(compile_config or {}), reporter)
    planner = keep_what_pays(everything, payoff)
    biases = measure_biases(prepared, planner, calibration_dataset, subset_size, reporter)
    planner = planner.with_bias_shifts(biases.arrays)
    return prepared.backend.apply(prepared.model, planner(Candidate()), planner.arrays)


def control_accuracy(
    model: Any,
    calibration_dataset: Dataset,
    validation_dataset: Dataset,
    validation_fn: ValidationFunction,
    *,
    max_drop: float | Mapping[str, float] = 0.01,
    drop_type: DropType = DropType.ABSOLUTE,
    higher_is_better: bool | Mapping[str, bool] = True,
    min_metric: float | Mapping[str, float] | None = None,
    confidence: float | None = None,
    holdout: float = 0.0,
    preset: QuantizationPreset | None = None,
    target_device: TargetDevice = TargetDevice.ANY,
    subset_size: int = 300,
    fast_bias_correction: bool = True,
    model_type: ModelType | None = None,
    ignored_scope: IgnoredScope | None = None,
    advanced_quantization_parameters: AdvancedQuantizationParameters | None = None,
    advanced_accuracy_restorer_parameters: AdvancedAccuracyRestorerParameters | None = None,
    placement: Placement | None = None,
    objective: Objective = "latency",
    compile_config: Mapping[str, Any] | None = None,
    max_validations: int | None = None,
    time_budget: float | None = None,
    strategy: str = "bracket",
    seed: int = 0,
    executor: ExecutorName = "serial",
    workers: int | None = None,
    output_dir: str | Path | None = None,
    allow_slower: bool = False,
    strict: bool = False,
    progress: bool | None = None,
) -> AccuracyControlResult:
    """Find the fastest 8-bit model whose metric falls by no more than `max_drop`.

    Args:
        model: `openvino.Model`, or path to an .xml or .onnx file; stays as it is.
        calibration_dataset: typical inputs, no labels needed; must be iterable more than once.
        validation_dataset: items for the validation function, passed to it as they are.
        validation_fn: `validate(compiled_model, items)` returns the metric, or a tuple of the metric and one
            value per item. For limits on several metrics it returns a dict with all of them. Where the metric is the
            mean of the values per item, and items can be taken by position, it is also called on parts of the items,
            so that a candidate that fails clearly is not scored on all of them.
        max_drop: largest allowed drop, compared without any tolerance. A dict `{"top1": 0.01, "ece": 0.005}` limits
            several metrics, all of which must hold; metrics without a limit are ignored.
        drop_type: ABSOLUTE counts drops in units of the metric, RELATIVE as a share of the float model's metric: of
            its absolute value, so that a metric below 0 that falls still has a positive drop. A float metric of 0
            leaves nothing to take a share of, and is refused as soon as it is known.
        higher_is_better: False for errors and losses; a dict by metric where `max_drop` is one.
        min_metric: what the metric must also reach, whatever the drop; where lower is better, what it must not
            exceed. A dict by metric where `max_drop` is one. The float model has to meet it.
        confidence: None limits the measured drop. A probability such as 0.95 limits the upper end of the drop's
            one-sided paired bootstrap interval instead: the drop that could still be on data like the validation
            items. It needs values per item whose mean is the metric. It holds for each candidate by itself; for an
            estimate that the choice among candidates cannot have touched, use `holdout`.
        holdout: share of the validation items that the search does not see. The float model and the result are scored
            on them once at the end; see `holdout_drop` of the result. What is promised about the drop is then
            promised on the other items.
        preset: see `quantize`.
        target_device: see `quantize`.
        subset_size: see `quantize`.
        fast_bias_correction: see `quantize`.
        model_type: see `quantize`.
        ignored_scope: see `quantize`.
        advanced_quantization_parameters: see `quantize`.
        advanced_accuracy_restorer_parameters: fine control over the search.
        placement: see `quantize`; None means "measured", or "all" where the objective is "size".
        objective: what the result is to be best at, within the limit: "latency" of one inference at a time,
            "throughput" of many at a time, "size" of the file, or the number of "ops" in int8. An 8-bit model that
            is slower than the float model is not returned, except for "size".
        compile_config: what the model will be compiled with when it is used; candidates are scored with it.
        max_validations: most passes over the validation data, those of the float and the fully quantized model
            included; None means 10, and up to 16 where there are fewer than 1000 items. Validations are what a
            search costs: the default ends it where others begin, and is rarely reached, because four to seven passes
            are typical. What is left after the first passing candidate is spent on quantizing ops again, the most
            valuable first; when six tenths are spent, only for a step that is expected to save 2 % of the work.
            A candidate that is rejected early counts for the share of the items it was scored on.
        time_budget: seconds after which no further candidate is started, nor one that would end later than that if it
            took as long as the longest so far.
        strategy: "bracket" finds how many ops must be float by bracketing; "greedy" reverts one op at a time, as other
            tools do, and is there to compare with.
        seed: of everything that is sampled: the order of the items, what is held out, and the intervals. The same
            seed gives the same result.
        executor: "serial" does everything in this process. "processes" shares the ranking, and the validation of
            candidates where it can be done in parts, out to worker processes; the result does not depend on their
            number. The validation function, the items, the calibration samples and the compile configuration are
            copied to the workers, so they must be picklable (functions of scripts and notebooks are).
        workers: number of worker processes, each with one thread of inference; None takes one for each core, as far
            as memory allows.
        output_dir: folder for trace, plan and model; the same call with the same folder continues where an
            earlier one was cut off.
        allow_slower: return the 8-bit model even where it is slower than the float model beyond doubt.
        strict: raise when nothing but the float model is within the limit.
        progress: True or False; None shows progress on a terminal.

    Returns:
        The best model and how it was found. Whatever happens after the float model was scored, the best model
        so far is returned.

    Raises:
        ValidationError: an argument is wrong, a dataset is empty, or a sample does not fit the model.
        MetricError: the validation function returned no finite number.
        TraceError: `output_dir` holds the trace of another search.
        TargetNotReachedError: only with `strict`.
        WorkerError: worker processes died again and again.
        Exception: whatever the validation function raises, with its own traceback; from a worker, the traceback there
            is the exception's cause.
    """
    arguments = ControlArguments(
        max_drop=max_drop, drop_type=drop_type, higher_is_better=higher_is_better, min_metric=min_metric,
        confidence=confidence, holdout=holdout, preset=preset, target_device=target_device, subset_size=subset_size,
        fast_bias_correction=fast_bias_correction, model_type=model_type, ignored_scope=ignored_scope,
        advanced_quantization_parameters=advanced_quantization_parameters,
        advanced_accuracy_restorer_parameters=advanced_accuracy_restorer_parameters,
        placement=placement, objective=objective, compile_config=compile_config, max_validations=max_validations,
        time_budget=time_budget, strategy=strategy, seed=seed, executor=executor, workers=workers,
        output_dir=output_dir, allow_slower=allow_slower, strict=strict, progress=progress,
    )  # fmt: skip
    result = _make_search(model, arguments).run(calibration_dataset, validation_dataset, validation_fn)
    if not result.reached:
        message = (
            f"no 8-bit model that pays is within max_drop={max_drop}: {result.stop_reason}; returning the float model"
        )
        if strict:
            raise TargetNotReachedError(message)
        warnings.warn(message, stacklevel=2)
    return result


def predict_cost(
    model: Any,
    calibration_dataset: Dataset,
    validation_dataset: Dataset,
    validation_fn: ValidationFunction | None = None,
    **options: Any,
) -> Forecast:
    """What `control_accuracy` with the same arguments will cost; nothing is started and nothing written.

    Args:
        model: see `control_accuracy`.
        calibration_dataset: its first sample is run a few times, to time an inference.
        validation_dataset: its items are counted, and the first few are validated.
        validation_fn: called once with the float model and the first 16 items, to time an item. None, or a function
            that cannot score so few, leaves its own time out of the seconds.
        options: as for `control_accuracy`.

    Returns:
        Validations, compiled models, forwards and seconds: at least, typically and at most. What an earlier run left
        in `output_dir` is not taken off; seconds are those of one process.

    Raises:
        ValidationError, ParameterNotSupportedError: as `control_accuracy`.
    """
    given = signature(control_accuracy).bind(
        model, calibration_dataset, validation_dataset, validation_fn, **options
    )  # fmt: skip
    given.apply_defaults()
    arguments = ControlArguments(**given.kwargs)
    return _make_search(model, arguments).forecast(calibration_dataset, validation_dataset, validation_fn)


def quantize_with_accuracy_control(
    model: Any,
    calibration_dataset: Dataset,
    validation_dataset: Dataset,
    validation_fn: ValidationFunction,
    *,
    max_drop: float = 0.01,
    drop_type: DropType = DropType.ABSOLUTE,
    preset: QuantizationPreset | None = None,
    target_device: TargetDevice = TargetDevice.ANY,
    subset_size: int = 300,
    fast_bias_correction: bool = True,
    model_type: ModelType | None = None,
    ignored_scope: IgnoredScope | None = None,
    advanced_quantization_parameters: AdvancedQuantizationParameters | None = None,
    advanced_accuracy_restorer_parameters: AdvancedAccuracyRestorerParameters | None = None,
) -> Any:
    """NNCF's signature for `control_accuracy(...).model`; see there for the arguments."""
    return control_accuracy(
        model,
        calibration_dataset,
        validation_dataset,
        validation_fn,
        max_drop=max_drop,
        drop_type=drop_type,
        preset=preset,
        target_device=target_device,
        subset_size=subset_size,
        fast_bias_correction=fast_bias_correction,
        model_type=model_type,
        ignored_scope=ignored_scope,
        advanced_quantization_parameters=advanced_quantization_parameters,
        advanced_accuracy_restorer_parameters=advanced_accuracy_restorer_parameters,
    ).model


def _make_search(model: Any, arguments: ControlArguments) -> AccuracyControl:
    """The search that `control_accuracy` starts."""
    control, options = arguments.control_options(), arguments.quantize_options()
    prepared = open_and_resolve(model, options)
    return AccuracyControl(prepared, options, control, ProgressReporter(arguments.progress))
