"""Wishes for all ops at once, tried one after another on the output of the fully quantized model.

No labels and no validation: a preset is kept where it brings the outputs on a few calibration samples clearly closer to
those of the float model. What the user has decided is not tried otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from maxdrop.data.protocols import Backend
from maxdrop.data.schema import Frozen
from maxdrop.data.spec import EstimatorSpec, Policy
from maxdrop.ptq.build import Planner
from maxdrop.search.reference import Errors, Reference

SAMPLES = 16

_LEAST_FALL = 0.1
"""Share by which the error must fall, as the geometric mean over the samples."""

_MAJORITY = 0.75
"""Share of the samples that must agree."""

_ESTIMATORS = ("minmax", "mean_minmax", "mse", "quantile")

Change = Callable[[Policy], Policy]


class Presets(Frozen):
    """What came of trying presets.

    Attributes:
        policy: with the chosen ones.
        chosen: their names.
        errors: mean output error with each that was tried, by name; "" for the policy as it was.
        forwards: inferences that it took.
    """

    policy: Policy
    chosen: tuple[str, ...]
    errors: dict[str, float]
    forwards: int


def choose_presets(
    planner: Planner,
    backend: Backend[Any],
    model: Any,
    config: Mapping[str, Any],
    samples: Sequence[Any],
    progress: Callable[[int], None],
) -> Presets:
    """Try every preset alone, and then those that are better together, the best first.

    Args:
        planner: as the user wants it.
        backend: of the model.
        model: the float model.
        config: the user's compile configuration, with which outputs are compared.
        samples: a few calibration samples.
        progress: called with the number of forwards that are done.
    """
    reference = Reference(backend, model, config, samples)
    done = len(samples)

    def errors(policy: Policy) -> Errors:
        nonlocal done
        found = reference.errors(planner.with_policy(policy))
        done += len(samples)
        progress(done)
        return found

    base = planner.policy
    best, policy = errors(base), base
    chosen: list[str] = []
    known: dict[str, Errors] = {"": best}
    changes = presets(base)
    for name, change in changes.items():
        known[name] = errors(change(base))
    order = sorted((name for name in changes if _better(known[name], best)), key=lambda n: _logs(known[n]).mean())
    for name in order:
        changed = changes[name](policy)
        found = errors(changed) if chosen else known[name]
        if _better(found, best):
            best, policy = found, changed
            chosen.append(name)
    return Presets(
        policy=policy,
        chosen=tuple(chosen),
        errors={name: float(each.mean()) for name, each in known.items()},
        forwards=done,
    )


def presets(policy: Policy) -> dict[str, Change]:
    """By name, what can be tried without breaking a wish in `policy`."""
    wishes, smooth = policy.activations, policy.smooth_quant
    found: dict[str, Change] = {}
    if wishes.symmetric is None:
        found["symmetric activations"] = _activations(symmetric=True)
    if wishes.per_channel is None:
        found["a scale for each channel in front of depthwise convolutions"] = _activations(per_channel=True)
    if wishes.estimator.name == "auto":
        found.update({f"ranges by {n}": _activations(estimator=EstimatorSpec(name=n)) for n in _ESTIMATORS})
    if smooth.matmul == "auto":
        found["no SmoothQuant of matrix products"] = _smooth_quant(matmul=None)
    if smooth.convolution == "auto":
        found["no SmoothQuant of convolutions"] = _smooth_quant(convolution=None)
    if policy.bias_correction:
        found["no bias correction"] = lambda p: p.model_copy(update={"bias_correction": False})
    if policy.weights.rounding == "nearest":
        found["weights rounded by gptq"] = lambda p: p.model_copy(
            update={"weights": p.weights.model_copy(update={"rounding": "gptq"})}
        )
    return found


def _activations(**wishes: Any) -> Change:
    return lambda p: p.model_copy(update={"activations": p.activations.model_copy(update=wishes)})


def _smooth_quant(**wishes: Any) -> Change:
    return lambda p: p.model_copy(update={"smooth_quant": p.smooth_quant.model_copy(update=wishes)})


def _logs(errors: Errors) -> Errors:
    return np.log(np.maximum(errors, 1e-30))


def _better(found: Errors, best: Errors) -> bool:
    differences = _logs(found) - _logs(best)
    return bool(differences.mean() < np.log1p(-_LEAST_FALL) and np.mean(differences < 0.0) >= _MAJORITY)
