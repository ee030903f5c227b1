"""Names and defaults are NNCF's, written out here once more."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from enum import Enum
from typing import Any

import pytest

import maxdrop as nncf
from maxdrop import options
from maxdrop.quantization import advanced_parameters, range_estimator
from maxdrop.quantization.advanced_parameters import QuantizerPropagationRule, RestoreMode
from maxdrop.quantization.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
)

MODEL, DATA, VALIDATION, FUNCTION = "model", "calibration_dataset", "validation_dataset", "validation_fn"
COMMON = {
    "preset": None,
    "target_device": "ANY",
    "subset_size": 300,
    "fast_bias_correction": True,
    "model_type": None,
    "ignored_scope": None,
}
SIGNATURES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "quantize": ([MODEL, DATA], {"mode": None, **COMMON, "advanced_parameters": None}),
    "quantize_with_accuracy_control": (
        [MODEL, DATA, VALIDATION, FUNCTION],
        {
            "max_drop": 0.01,
            "drop_type": "absolute",
            **COMMON,
            "advanced_quantization_parameters": None,
            "advanced_accuracy_restorer_parameters": None,
        },
    ),
}

FIELDS: dict[str, dict[str, Any]] = {
    "AdvancedQuantizationParameters": {
        "overflow_fix": None,
        "quantize_outputs": False,
        "inplace_statistics": True,
        "disable_channel_alignment": True,
        "disable_bias_correction": False,
        "batchwise_statistics": None,
        "activations_quantization_params": None,
        "weights_quantization_params": None,
        "quantizer_propagation_rule": QuantizerPropagationRule.MERGE_ALL_IN_ONE,
        "activations_range_estimator_params": RangeEstimatorParameters(),
        "weights_range_estimator_params": RangeEstimatorParameters(),
        "bias_correction_params": options.AdvancedBiasCorrectionParameters(),
        "smooth_quant_alphas": options.AdvancedSmoothQuantParameters(),
        "smooth_quant_alpha": None,
        "backend_params": {},
    },
    "AdvancedBiasCorrectionParameters": {"apply_for_all_nodes": False, "threshold": None},
    "AdvancedSmoothQuantParameters": {"convolution": -1, "matmul": 0.95},
    "QuantizationParameters": dict.fromkeys(("num_bits", "mode", "signedness_to_force", "per_channel", "narrow_range")),
    "FP8QuantizationParameters": {"destination_type": None},
    "AdvancedAccuracyRestorerParameters": {
        "max_num_iterations": sys.maxsize,
        "tune_hyperparams": False,
        "ranking_subset_size": None,
        "num_ranking_workers": None,
        "intermediate_model_dir": None,
        "restore_mode": RestoreMode.ACTIVATIONS_AND_WEIGHTS,
    },
    "StatisticsCollectorParameters": {
        "statistics_type": None,
        "aggregator_type": None,
        "clipping_value": None,
        "quantile_outlier_prob": 1e-4,
    },
    "RangeEstimatorParameters": {"min": StatisticsCollectorParameters(), "max": StatisticsCollectorParameters()},
    "IgnoredScope": {"names": [], "patterns": [], "types": [], "subgraphs": [], "validate": True},
    "Subgraph": {"inputs": [], "outputs": []},
}

MEMBERS: dict[str, set[str]] = {
    "TargetDevice": {"ANY", "CPU", "GPU", "NPU", "CPU_SPR"},
    "ModelType": {"TRANSFORMER"},
    "DropType": {"ABSOLUTE", "RELATIVE"},
    "QuantizationPreset": {"PERFORMANCE", "MIXED"},
    "QuantizationMode": {"FP8_E4M3", "FP8_E5M2"},
    "RestoreMode": {"ACTIVATIONS_AND_WEIGHTS", "ONLY_ACTIVATIONS"},
    "OverflowFix": {"ENABLE", "FIRST_LAYER", "DISABLE"},
    "FP8Type": {"E4M3", "E5M2"},
    "QuantizerPropagationRule": {
        "DO_NOT_MERGE_BRANCHES",
        "MERGE_IF_ALL_BRANCHES_SAME",
        "MERGE_WITH_POTENTIAL_REQUANTIZATION",
        "MERGE_ALL_IN_ONE",
    },
    "StatisticsType": {"MAX", "MIN", "ABS_MAX", "QUANTILE", "ABS_QUANTILE", "MEAN", "RAW"},
    "AggregatorType": {"MEAN", "MAX", "MIN", "MEDIAN", "MEAN_NO_OUTLIERS", "MEDIAN_NO_OUTLIERS", "HISTOGRAM"},
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name: str) -> None:
    """Parameters of our own may follow, as keywords with a default."""
    positional, keywords = SIGNATURES[name]
    parameters = list(inspect.signature(getattr(nncf, name)).parameters.values())
    kinds = inspect.Parameter
    assert [p.name for p in parameters if p.kind is kinds.POSITIONAL_OR_KEYWORD] == positional
    found = {p.name: p.default for p in parameters if p.kind is kinds.KEYWORD_ONLY}
    assert list(found)[: len(keywords)] == list(keywords)
    assert {key: found[key] for key in keywords} == keywords
    assert kinds.empty not in found.values()


@pytest.mark.parametrize("name", FIELDS)
def test_fields_and_defaults(name: str) -> None:
    kind = getattr(nncf, name, None) or getattr(options, name)
    made = kind()
    assert {f.name: getattr(made, f.name) for f in dataclasses.fields(made)} == FIELDS[name]
    assert [f.name for f in dataclasses.fields(made)] == list(FIELDS[name])


@pytest.mark.parametrize("name", MEMBERS)
def test_members(name: str) -> None:
    kind: type[Enum] = getattr(options, name)
    assert set(kind.__members__) == MEMBERS[name]


def test_ready_made_estimators() -> None:
    s, a = StatisticsType, AggregatorType
    expected = {
        "MINMAX": ((s.MIN, a.MIN), (s.MAX, a.MAX)),
        "MEAN_MINMAX": ((s.MIN, a.MEAN), (s.MAX, a.MEAN)),
        "MEDIAN_MINMAX": ((s.MIN, a.MEDIAN), (s.MAX, a.MEDIAN)),
        "MEAN_NO_OUTLIERS_MINMAX": ((s.MIN, a.MEAN_NO_OUTLIERS), (s.MAX, a.MEAN_NO_OUTLIERS)),
        "MEAN_QUANTILE": ((s.QUANTILE, a.MEAN), (s.QUANTILE, a.MEAN)),
        "HISTOGRAM": ((s.RAW, a.HISTOGRAM), (s.RAW, a.HISTOGRAM)),
    }
    for name, ends in expected.items():
        made = getattr(RangeEstimatorParametersSet, name)
        assert [(e.statistics_type, e.aggregator_type) for e in (made.min, made.max)] == list(ends), name


@pytest.mark.parametrize("module", [advanced_parameters, range_estimator])
def test_submodules_export_the_same_objects(module: Any) -> None:
    assert module.__all__ == sorted(module.__all__)
    for name in module.__all__:
        if name != "QuantizationMode":  # in this module, NNCF's name for the scheme
            assert getattr(module, name) is getattr(options, name)
    assert advanced_parameters.QuantizationMode is options.QuantizationScheme
    assert nncf.quantization.advanced_parameters.RestoreMode is options.RestoreMode
    assert nncf.quantization.range_estimator.RangeEstimatorParametersSet is options.RangeEstimatorParametersSet
