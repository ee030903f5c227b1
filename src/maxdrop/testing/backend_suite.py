"""What every backend must do. Subclass `BackendSuite` in a test module and give `make_case`."""

# ruff: noqa: D102 - the names of the tests say what they hold

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.plan import Arrays, BiasShift, Candidate, QuantizationPlan
from maxdrop.data.protocols import Backend
from maxdrop.data.spec import Policy, Precision
from maxdrop.data.statistics import Request, Statistics, TensorStatistics
from maxdrop.errors import MaxdropError, PlanError
from maxdrop.ptq.build import Planner
from maxdrop.ptq.calibration import calibration_requests
from maxdrop.ptq.numerics import nmse
from maxdrop.ptq.payoff import choose_int8

Outputs = list[NDArray[Any]]


@dataclass(frozen=True)
class BackendCase:
    """A backend and a model to try it on.

    Attributes:
        backend: to be tested.
        model: float, with two or more convolutions or matrix products, one of which reads another directly.
        samples: an even number of input arrays.
        run: outputs of what `backend.compile` returned, for one sample.
        config: compiles for full float precision, so that differences are those of the plan.
    """

    backend: Backend[Any]
    model: Any
    samples: list[Any]
    run: Callable[[Any, Any], Outputs]
    config: Mapping[str, Any] = field(default_factory=dict)

    def outputs(self, model: Any) -> list[Outputs]:
        """Outputs of `model` for every sample."""
        compiled = self.backend.compile(model, self.config)
        return [self.run(compiled, sample) for sample in self.samples]

    @cached_property
    def statistics(self) -> Statistics:
        """Of all samples."""
        return self.observe(self.samples)

    @property
    def policy(self) -> Policy:
        """Puts every op that can run in int8 there."""
        return Policy(placement="all", reduced_range=self.backend.default_reduced_range())

    @property
    def requests(self) -> list[Request]:
        """All values that a plan could need."""
        graph = self.backend.graph(self.model)
        return calibration_requests(graph, choose_int8(graph, self.policy)[0])

    @cached_property
    def planner(self) -> Planner:
        """Makes the plans."""
        return Planner(self.backend.graph(self.model), self.policy, self.statistics)

    @cached_property
    def plan(self) -> QuantizationPlan:
        """Everything in int8."""
        return self.planner(Candidate())

    def apply(self, plan: QuantizationPlan) -> Any:
        """The float model after `plan`."""
        return self.backend.apply(self.model, plan, self.planner.arrays)

    def observe(self, samples: list[Any]) -> Statistics:
        """Statistics of all values that a plan could need."""
        return self.backend.observe(self.model, self.requests, samples, lambda done: None)

    def files(self, model: Any, folder: Path) -> dict[str, bytes]:
        """Everything that `save` leaves behind, by file name."""
        folder.mkdir()
        self.backend.save(model, folder / "model.xml")
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class BackendSuite:
    """Conformance tests; pytest collects those of a subclass whose name begins with "Test"."""

    def make_case(self) -> BackendCase:
        """The backend and a fresh model."""
        raise NotImplementedError

    def test_nodes_come_after_those_they_read(self) -> None:
        case = self.make_case()
        graph = case.backend.graph(case.model)
        seen: set[str] = set()
        for node in graph:
            assert seen.issuperset(node.inputs)
            seen.update(node.outputs)
        assert seen == set(graph.values)

    def test_uses_and_inputs_tell_the_same(self) -> None:
        case = self.make_case()
        graph = case.backend.graph(case.model)
        from_nodes = {(value, node.name, i) for node in graph for i, value in enumerate(node.inputs)}
        from_values = {(value.name, use.node, use.index) for value in graph.values.values() for use in value.uses}
        assert from_nodes == from_values
        assert all(value.name in graph.producer(value.name).outputs for value in graph.values.values())

    def test_weights_match_their_description(self) -> None:
        case = self.make_case()
        graph = case.backend.graph(case.model)
        assert len(graph.contractions) >= 2
        for node in graph.contractions:
            contraction = node.contraction
            if contraction is None or contraction.weight_input is None:
                continue
            weight = graph.constant(node.inputs[contraction.weight_input])
            shape = graph.value(node.inputs[0]).shape
            size = shape[contraction.channel_axes[0]] if shape else None
            assert size is None or weight.shape[contraction.weight_channel_axis] * contraction.groups == size
            assert node.macs > 0
            assert graph.value(node.inputs[contraction.weight_input]).is_constant

    def test_the_fingerprint_follows_the_content(self, tmp_path: Path) -> None:
        case = self.make_case()
        first = case.backend.graph(case.model).fingerprint
        assert first == case.backend.graph(self.make_case().model).fingerprint
        assert first != case.backend.graph(case.apply(case.plan)).fingerprint
        case.backend.save(case.model, tmp_path / "model.xml")
        read = [case.backend.graph(case.backend.load(tmp_path / "model.xml")).fingerprint for _ in range(2)]
        assert read[0] == read[1]

    def test_observe_answers_every_request(self) -> None:
        case = self.make_case()
        ticks: list[int] = []
        found = case.backend.observe(case.model, case.requests, iter(case.samples), ticks.append)
        assert found.tensors.keys() == {request.key for request in case.requests}
        assert found.graph == case.backend.graph(case.model).fingerprint
        assert ticks == list(range(1, len(case.samples) + 1))
        for tensor in found.tensors.values():
            assert tensor.is_finite
            assert tensor.count >= len(case.samples)
            assert tensor.rows.shape == (len(tensor.row_sample), len(tensor.channel_mean))
            assert (np.diff(tensor.row_sample) >= 0).all()
            assert tensor.channel_min.min() == tensor.sample_min.min()
            assert tensor.channel_max.max() == tensor.sample_max.max()
            assert (tensor.channel_min <= tensor.channel_mean).all()
            assert (tensor.channel_mean <= tensor.channel_max).all()
            assert (tensor.rows >= tensor.channel_min).all()
            assert (tensor.rows <= tensor.channel_max).all()

    def test_inexact_statistics_are_close(self) -> None:
        case = self.make_case()
        found = case.backend.observe(case.model, case.requests, case.samples, lambda done: None, exact=False)
        assert found.tensors.keys() == case.statistics.tensors.keys()
        for name, exact in case.statistics.tensors.items():
            reach = float(max(-exact.channel_min.min(), exact.channel_max.max()))
            for key in ("sample_min", "sample_max", "channel_min", "channel_max", "channel_mean"):
                expected, close = getattr(exact, key), getattr(found[name], key)
                np.testing.assert_allclose(close, expected, rtol=0, atol=0.01 * reach, err_msg=f"{name} {key}")

    def test_observing_parts_and_merging_is_observing_the_whole(self) -> None:
        case = self.make_case()
        half = len(case.samples) // 2
        merged = case.observe(case.samples[:half]).merge(case.observe(case.samples[half:]))
        assert merged.tensors.keys() == case.statistics.tensors.keys()
        for name, whole in case.statistics.tensors.items():
            for key in TensorStatistics.__dataclass_fields__:
                expected, found = getattr(whole, key), getattr(merged[name], key)
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=f"{name} {key}")

    def test_nobody_else_needs_to_hold_the_samples(self) -> None:
        """A transform function makes arrays that nothing refers to any more once they are taken, in any layout."""
        case = self.make_case()
        expected = [case.statistics[request.value].sample_min for request in case.requests]
        for make in (_copied, _turned):
            for _ in range(5):
                fresh = case.backend.observe(case.model, case.requests, map(make, case.samples), lambda done: None)
                for request, lowest in zip(case.requests, expected, strict=True):
                    np.testing.assert_array_equal(fresh[request.value].sample_min, lowest)

    def test_nothing_changes_the_input_model(self, tmp_path: Path) -> None:
        case = self.make_case()
        before = case.files(case.model, tmp_path / "before")
        case.apply(case.plan)
        case.backend.switchable(case.model, case.plan).run(case.samples[0], case.plan.int8_ops)
        case.backend.latency([case.model], {}, case.samples, 2)
        assert case.files(case.model, tmp_path / "after") == before

    def test_the_copy_to_work_on_is_the_same_model(self, tmp_path: Path) -> None:
        case = self.make_case()
        before = case.files(case.model, tmp_path / "before")
        own = case.backend.own(case.model)
        _assert_equal(case.outputs(own), case.outputs(case.model))
        again = case.backend.own(case.model)
        assert case.backend.graph(own).fingerprint == case.backend.graph(again).fingerprint
        assert case.files(case.model, tmp_path / "after") == before

    def test_an_empty_plan_changes_no_output(self) -> None:
        case = self.make_case()
        floats = dict.fromkeys(case.planner.int8_ops, Precision.FLOAT)
        plan = case.planner(Candidate(precisions=floats))
        assert not plan.quantizers
        assert not plan.edits
        _assert_equal(case.outputs(case.apply(plan)), case.outputs(case.model))

    def test_equal_plans_give_equal_files(self, tmp_path: Path) -> None:
        case, again = self.make_case(), self.make_case()
        assert case.plan.key() == again.plan.key()
        first = case.files(case.apply(case.plan), tmp_path / "first")
        assert case.files(case.apply(case.plan), tmp_path / "second") == first
        assert again.files(again.apply(again.plan), tmp_path / "third") == first

    def test_a_plan_for_another_model_is_refused(self) -> None:
        case = self.make_case()
        foreign = case.plan.model_copy(update={"graph": "0" * 64})
        try:
            case.apply(foreign)
        except PlanError:
            return
        raise AssertionError("a plan with a foreign fingerprint was applied")

    def test_int8_outputs_are_close_to_float_but_not_equal(self) -> None:
        case = self.make_case()
        assert len(case.plan.int8_ops) >= 2
        error = _error(case.outputs(case.model), case.outputs(case.apply(case.plan)))
        assert 0.0 < error < 0.02

    def test_a_model_to_observe_computes_the_same(self) -> None:
        """But for what differences in the last bit of a sum make of a value between two codes."""
        case = self.make_case()
        observable = case.backend.apply(case.model, case.plan, case.planner.arrays, observable=True)
        assert _error(case.outputs(case.apply(case.plan)), case.outputs(observable)) < 1e-4

    def test_every_bias_shift_reaches_the_output(self) -> None:
        """A shift far larger than any quantization step must be seen, whatever reads the op."""
        case = self.make_case()
        assert case.plan.edits
        plain = case.outputs(case.apply(case.plan.model_copy(update={"edits": ()})))
        for edit in case.plan.edits:
            arrays = Arrays()
            large = 0.5 + np.abs(case.planner.arrays.get(edit.shift))
            shift = BiasShift(op=edit.op, shift=arrays.put(large), reason=edit.reason)
            shifted = case.backend.apply(case.model, case.plan.model_copy(update={"edits": (shift,)}), arrays)
            assert _error(plain, case.outputs(shifted)) > 1e-4, f"the shift of {edit.op} is lost"

    def test_outputs_are_those_of_the_compiled_model(self) -> None:
        case = self.make_case()
        for model in (case.model, case.apply(case.plan)):
            _assert_equal(list(case.backend.outputs(model, case.config, case.samples)), case.outputs(model))

    def test_switches_off_is_the_float_model(self) -> None:
        case = self.make_case()
        switchable = case.backend.switchable(case.model, case.plan)
        assert list(switchable.ops) == list(case.plan.int8_ops)
        found = [switchable.run(sample, ()) for sample in case.samples]
        _assert_equal(found, case.outputs(case.model))

    def test_every_switch_does_something_and_all_together_are_the_plan(self) -> None:
        case = self.make_case()
        switchable = case.backend.switchable(case.model, case.plan)
        sample = case.samples[0]
        off = [switchable.run(sample, ())]
        assert all(_error(off, [switchable.run(sample, (op,))]) > 0.0 for op in switchable.ops)
        # Weights stay float behind the switches, so the plan is compared without them.
        activations = tuple(q for q in case.plan.quantizers if not q.constant)
        applied = case.apply(case.plan.model_copy(update={"quantizers": activations, "edits": ()}))
        found = [switchable.run(s, switchable.ops) for s in case.samples]
        assert _error(case.outputs(applied), found) < 1e-3
        _assert_equal([switchable.run(sample, ())], off)

    def test_a_saved_model_computes_the_same(self, tmp_path: Path) -> None:
        case = self.make_case()
        for number, model in enumerate((case.model, case.apply(case.plan))):
            path = tmp_path / f"{number}.xml"
            case.backend.save(case.model, path)
            case.backend.save(model, path)  # replaces what is there
            _assert_equal(case.outputs(case.backend.load(path)), case.outputs(model))
        left = {path.stem for path in tmp_path.iterdir()}
        assert left == {"0", "1"}, "saving left further files behind"

    def test_a_damaged_file_is_refused(self, tmp_path: Path) -> None:
        case = self.make_case()
        path = tmp_path / "model.xml"
        path.write_text("no model")
        try:
            case.backend.load(path)
        except MaxdropError:
            return
        raise AssertionError("a file without a model was loaded")

    def test_executed_speaks_of_every_op_of_the_plan(self) -> None:
        case = self.make_case()
        first = case.plan.int8_ops[0]
        mixed = case.planner(Candidate(precisions={first: Precision.FLOAT}))
        found = case.backend.executed(case.backend.compile(case.apply(mixed), {}), mixed)
        assert found.keys() == {*mixed.int8_ops, *mixed.float_ops}
        assert found[first] is False
        floating = case.backend.executed(case.backend.compile(case.model, {}), case.plan)
        assert not any(floating.values())

    def test_every_model_gets_its_latency(self) -> None:
        case = self.make_case()
        seconds = case.backend.latency([case.model, case.apply(case.plan)], {}, case.samples, 3)
        assert seconds.shape == (2, 3)
        assert (seconds > 0.0).all()

    def test_ops_get_their_time(self) -> None:
        case = self.make_case()
        models = [case.model, case.apply(case.plan)]
        seconds = case.backend.op_seconds(models, {}, case.samples[0], case.backend.graph(case.model))
        assert len(seconds) == 2
        for found in seconds:
            assert set(case.plan.int8_ops) <= found.keys()
            assert all(spent >= 0.0 for spent in found.values())
            assert sum(found.values()) > 0.0

    def test_busy_keeps_what_the_user_says(self) -> None:
        config = {"INFERENCE_NUM_THREADS": 1}
        found = self.make_case().backend.busy(config)
        assert config.items() <= found.items()
        assert config == {"INFERENCE_NUM_THREADS": 1}

    def test_latency_with_many_inferences_at_a_time(self) -> None:
        case = self.make_case()
        seconds = case.backend.latency([case.model], case.backend.busy({}), case.samples, 2)
        assert seconds.shape == (1, 2)
        assert (seconds > 0.0).all()

    def test_a_copy_for_another_process_gives_the_same_model(self, tmp_path: Path) -> None:
        case = self.make_case()
        case.backend.save(case.model, tmp_path / "model.xml")
        copy = pickle.loads(pickle.dumps(case.backend))
        copy.limit_threads(1)
        read = copy.load(tmp_path / "model.xml")
        quantized = copy.apply(read, case.plan, case.planner.arrays)
        assert case.files(quantized, tmp_path / "copy") == case.files(case.apply(case.plan), tmp_path / "own")
        compiled = copy.compile(quantized, case.config)
        found = [case.run(compiled, sample) for sample in case.samples]
        assert _error(case.outputs(case.apply(case.plan)), found) < 1e-9

    def test_versions_and_machine_are_named(self) -> None:
        backend = self.make_case().backend
        for facts in (backend.versions, backend.machine):
            assert facts
            assert all(isinstance(name, str) and isinstance(fact, str) for name, fact in facts.items())
        assert isinstance(backend.runs_target, bool)


def _copied(sample: Any) -> Any:
    return np.array(sample, copy=True)


def _turned(sample: Any) -> Any:
    """The same numbers, laid out the other way round in memory."""
    return np.asfortranarray(sample)


def _error(reference: list[Outputs], other: list[Outputs]) -> float:
    """Largest NMSE of any output."""
    pairs = [(r, o) for rs, os in zip(reference, other, strict=True) for r, o in zip(rs, os, strict=True)]
    return max(nmse(r, o) for r, o in pairs)


def _assert_equal(found: list[Outputs], expected: list[Outputs]) -> None:
    assert _error(expected, found) == 0.0
