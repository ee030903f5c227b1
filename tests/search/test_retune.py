"""Other int8 forms for sensitive ops: what is measured, what is kept, and at what cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from maxdrop.data.plan import Candidate, QuantizationPlan
from maxdrop.data.protocols import Switchable
from maxdrop.data.spec import ActivationPolicy, EstimatorSpec, Form, Policy, SmoothQuantPolicy
from maxdrop.dataset import Dataset
from maxdrop.preparation import Prepared, calibrate
from maxdrop.progress import ProgressReporter
from maxdrop.ptq.build import Planner
from maxdrop.search.forms import VARIANTS, clusters, most_sensitive
from maxdrop.search.presets import choose_presets, presets
from maxdrop.search.retune import LEAST_FALL, Retuned, retune
from maxdrop.search.sensitivity import add_weight_error, measure_sensitivity
from maxdrop.testing.toy_backend import ToyBackend
from maxdrop.testing.toy_model import ToyModel
from tests.toys import toy_model, toy_samples

SIMPLE = Policy(
    smooth_quant=SmoothQuantPolicy(matmul=None),
    activations=ActivationPolicy(estimator=EstimatorSpec(name="mean_minmax")),
)
"""Worse than the defaults, so that there is something to find."""


class CountingBackend(ToyBackend):
    """A toy backend that counts forwards."""

    def __init__(self) -> None:
        self.forwards = 0
        self.switchables = 0

    def outputs(self, model: ToyModel, config: Mapping[str, Any], samples: Iterable[Any]) -> Iterator[list[Any]]:
        """Counted."""
        for found in super().outputs(model, config, samples):
            self.forwards += 1
            yield found

    def switchable(self, model: ToyModel, plan: QuantizationPlan) -> Switchable:
        """Counted."""
        self.switchables += 1
        made = super().switchable(model, plan)
        run = made.run

        def counted(sample: Any, on: Iterable[str]) -> list[Any]:
            self.forwards += 1
            return run(sample, on)

        made.run = counted  # type: ignore[method-assign]
        return made


def planner(policy: Policy = SIMPLE, spike: float = 1.0) -> Planner:
    """A planner of the toy model; one channel of its input is `spike` times as wide as the others."""
    backend, model = ToyBackend(), toy_model()
    prepared = Prepared(backend, model, backend.graph(model), policy)
    calibration = calibrate(prepared, Dataset(samples(spike)), 300, ProgressReporter(False))
    return Planner(prepared.graph, policy, calibration.statistics)


def samples(spike: float = 1.0) -> list[Any]:
    found = toy_samples(24)
    for sample in found:
        sample[:, 3] *= spike
    return found


def sensitivities(made: Planner, seen: list[Any]) -> dict[str, float]:
    plan = made(Candidate())
    raw = measure_sensitivity(ToyBackend().switchable(toy_model(), plan), seen, lambda done: None)
    return add_weight_error(raw, made.graph, plan, made.statistics)


def retuned(
    made: Planner, wishes: Policy | None = None, spike: float = 1.0, backend: ToyBackend | None = None
) -> tuple[dict[str, float], Retuned]:
    seen, unseen = samples(spike)[:4], samples(spike)[8:16]
    before = sensitivities(made, seen)
    chosen = backend or ToyBackend()
    found = retune(made, wishes or Policy(), chosen, toy_model(), {}, before, seen, unseen, lambda done: None)
    return before, found


@pytest.mark.parametrize("spike", [1.0, 31.0])
def test_kept_forms_disturb_less_and_so_does_the_whole_model(spike: float) -> None:
    made = planner(spike=spike)
    before, found = retuned(made, spike=spike)
    assert found.forms
    assert found.error_after is not None
    assert found.error_before is not None
    assert found.error_after < found.error_before
    for cluster in clusters(made.graph, made(Candidate())):
        after, was = (sum(each[op] for op in cluster.ops) for each in (found.sensitivity, before))
        tuned = [found.forms[value] for value in cluster.values if value in found.forms]
        if not tuned:
            assert after == was
        elif tuned[0].rounding is None:
            assert after <= (1.0 - LEAST_FALL) * was
    # What is reported is what the ops really do in the plan that follows.
    again = sensitivities(made.with_forms(found.forms), samples(spike)[:4])
    assert again == pytest.approx(found.sensitivity)


def test_the_cost_is_linear_and_reported() -> None:
    backend = CountingBackend()
    ops = len(planner().int8_ops)
    _, found = retuned(planner(), backend=backend)
    assert backend.forwards == found.forwards
    assert found.forwards <= VARIANTS * 4 * (ops + 1) + 3 * 8
    assert backend.switchables <= VARIANTS


def test_what_is_not_better_for_the_whole_model_is_not_kept() -> None:
    """Forms that suit the samples which judged them, but not the others."""
    made = planner(SIMPLE.model_copy(update={"activations": ActivationPolicy(estimator=EstimatorSpec(name="minmax"))}))
    seen = [0.2 * sample for sample in samples()[:4]]
    unseen = [3.0 * sample for sample in samples()[8:16]]
    before = sensitivities(made, seen)
    found = retune(made, Policy(), ToyBackend(), toy_model(), {}, before, seen, unseen, lambda done: None)
    assert found.measured > 0
    assert found.error_before is not None
    assert found.error_after is not None
    assert found.error_after >= found.error_before
    assert found.forms == {}
    assert found.sensitivity == before


def test_the_wishes_of_the_user_are_not_touched() -> None:
    fixed = SIMPLE.model_copy(update={"activations": SIMPLE.activations.model_copy(update={"symmetric": False})})
    _, found = retuned(planner(), wishes=fixed)
    assert found.measured == 0
    assert all(form == Form(rounding="gptq") for form in found.forms.values())


def test_the_plan_is_a_pure_function_of_the_recorded_policy() -> None:
    made = planner(spike=31.0)
    _, found = retuned(made, spike=31.0)
    plan = made.with_forms(found.forms)(Candidate())
    read = Policy.model_validate_json(plan.policy.model_dump_json())
    assert read.tuned == found.forms
    assert Planner(made.graph, read, made.statistics)(Candidate()) == plan
    assert plan.key() != made(Candidate()).key()


def test_the_trace_brings_it_back_unchanged() -> None:
    _, found = retuned(planner())
    assert Retuned.model_validate_json(found.model_dump_json()) == found


def test_ops_that_share_a_quantizer_are_judged_together() -> None:
    made = planner()
    found = clusters(made.graph, made(Candidate()))
    assert sorted(op for cluster in found for op in cluster.ops) == sorted(made.int8_ops)
    (both,) = [cluster for cluster in found if "a" in cluster.ops]
    assert set(both.ops) == {"a", "b"}
    assert both.values == ("x",)


def test_only_the_most_sensitive_ops_are_retuned() -> None:
    made = planner()
    found = clusters(made.graph, made(Candidate()))
    sensitivity = {"a": 1.0, "b": 1.0, "c": 50.0, "d": 20.0, "e": 0.0}
    names = [cluster.ops for cluster in most_sensitive(found, sensitivity, most=20, share=0.9)]
    assert names == [("c",), ("d",)]
    assert [c.ops for c in most_sensitive(found, sensitivity, most=1, share=1.0)] == [("c",)]


@pytest.mark.parametrize(
    "form",
    [
        Form(estimator=EstimatorSpec(name="minmax")),
        Form(symmetric=True),
        Form(smooth_quant=0.5),
        Form(smooth_quant="off", estimator=EstimatorSpec(name="quantile")),
        Form(rounding="gptq"),
    ],
)
def test_a_form_changes_its_value_and_no_other(form: Form) -> None:
    made = planner(Policy(), spike=31.0)
    before, after = made(Candidate()), made.with_forms({"d_relu": form})(Candidate())
    other = [q for q in after.quantizers if not any(use.node == "e" for use in q.serves)]
    assert other == [q for q in before.quantizers if not any(use.node == "e" for use in q.serves)]
    wanted = made.with_policy(Policy().model_copy(update={"tuned": {"d_relu": form}}))(Candidate())
    assert wanted == after
    assert made.with_forms({"d_relu": Form()})(Candidate()).quantizers == before.quantizers


def test_presets_that_do_not_help_are_not_chosen_and_all_are_counted() -> None:
    backend, made = CountingBackend(), planner(Policy())
    found = choose_presets(made, backend, toy_model(), {}, samples()[:16], lambda done: None)
    assert found.errors.keys() == {"", *presets(Policy())}
    assert backend.forwards == found.forwards
    assert found.forwards == 16 * (2 + len(presets(Policy())))
    assert found.chosen == ()
    assert found.policy == Policy()


def test_presets_leave_the_wishes_of_the_user() -> None:
    wishes = ActivationPolicy(symmetric=True, per_channel=False, estimator=EstimatorSpec(name="quantile"))
    policy = Policy(
        activations=wishes, smooth_quant=SmoothQuantPolicy(matmul=0.5, convolution=0.5), bias_correction=False
    )
    assert list(presets(policy)) == ["weights rounded by gptq"]
    for change in presets(Policy()).values():
        assert change(Policy()) != Policy()
