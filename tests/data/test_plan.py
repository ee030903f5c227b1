from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxdrop.data.plan import (
    ArrayRef,
    Arrays,
    BiasShift,
    Candidate,
    QuantizationPlan,
    Quantizer,
    UseRef,
    load_plan,
    save_plan,
)
from maxdrop.data.spec import ActivationPolicy, Policy, Precision, QuantizerSpec, QuantParams
from maxdrop.errors import PlanError

names = st.text(min_size=1, max_size=12)
floats = st.floats(allow_nan=False, width=32)
uses = st.lists(st.builds(UseRef, node=names, index=st.integers(0, 5)), max_size=3).map(tuple)
specs = st.builds(
    QuantizerSpec,
    dtype=st.sampled_from(["int8", "uint8"]),
    symmetric=st.booleans(),
    axes=st.lists(st.integers(-4, 4), max_size=2).map(tuple),
    narrow_range=st.booleans(),
    reduced_range=st.booleans(),
)
params = st.builds(
    QuantParams,
    scale=st.lists(floats, min_size=1, max_size=4).map(tuple),
    zero_point=st.lists(st.integers(-128, 255), min_size=1, max_size=4).map(tuple),
    factors=st.lists(floats, max_size=4).map(tuple),
)
quantizers = st.builds(
    Quantizer,
    id=names,
    value=names,
    uses=uses,
    serves=uses,
    constant=st.booleans(),
    spec=specs,
    params=params,
    group=names,
)
candidates = st.builds(Candidate, precisions=st.dictionaries(names, st.sampled_from(Precision), max_size=4))
policies = st.builds(
    Policy,
    placement=st.sampled_from(["table", "all"]),
    activations=st.builds(ActivationPolicy, symmetric=st.none() | st.booleans()),
    ignored=st.dictionaries(names, names, max_size=2),
)
shifts = st.lists(st.tuples(names, st.lists(floats, min_size=1, max_size=5)), max_size=3)


@st.composite
def plans(draw: st.DrawFn) -> tuple[QuantizationPlan, Arrays]:
    arrays = Arrays()
    edits = tuple(
        BiasShift(op=op, shift=arrays.put(np.array(shift, np.float32)), reason=draw(names))
        for op, shift in draw(shifts)
    )
    plan = QuantizationPlan(
        graph=draw(names),
        policy=draw(policies),
        candidate=draw(candidates),
        quantizers=tuple(draw(st.lists(quantizers, max_size=3))),
        edits=edits,
        int8_ops=tuple(draw(st.lists(names, max_size=3))),
        float_ops=draw(st.dictionaries(names, names, max_size=3)),
    )
    return plan, arrays


@given(made=plans())
@settings(max_examples=30)
def test_a_plan_survives_the_way_to_disk(made: tuple[QuantizationPlan, Arrays], tmp_path: Path) -> None:
    plan, arrays = made
    path = tmp_path / "plan.json"
    save_plan(plan, arrays, path)
    loaded, found = load_plan(path)
    assert loaded == plan
    assert loaded.key() == plan.key()
    for edit in plan.edits:
        np.testing.assert_array_equal(found.get(edit.shift), arrays.get(edit.shift))
    json.loads(path.read_text(), parse_constant=_refuse_constant)


@given(plans(), plans())
def test_the_key_follows_the_content(
    first: tuple[QuantizationPlan, Arrays], second: tuple[QuantizationPlan, Arrays]
) -> None:
    assert (first[0] == second[0]) == (first[0].key() == second[0].key())


def test_equal_plans_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_plan(*_example(), tmp_path / f"{name}.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize(
    "where", [(), ("policy",), ("policy", "activations"), ("candidate",), ("quantizers", 0), ("edits", 0, "shift")]
)
def test_unknown_keys_are_refused(where: tuple[str | int, ...], tmp_path: Path) -> None:
    def change(content: Any) -> None:
        for step in where:
            content = content[step]
        content["surprise"] = 1

    path = _changed(tmp_path, change)
    with pytest.raises(PlanError, match="surprise"):
        load_plan(path)


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_schema_version_is_refused(version: int, tmp_path: Path) -> None:
    path = _changed(tmp_path, lambda content: content.update(schema_version=version))
    with pytest.raises(PlanError, match=rf"has {version}"):
        load_plan(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"graph": 1}'])
def test_what_is_no_plan_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(PlanError, match=r"plan\.json"):
        load_plan(path)


def test_missing_arrays_are_named(tmp_path: Path) -> None:
    plan, arrays = _example()
    path = tmp_path / "plan.json"
    save_plan(plan, arrays, path)
    path.with_suffix(".npz").unlink()
    loaded, found = load_plan(path)
    with pytest.raises(PlanError, match=r"plan\.npz"):
        found.get(loaded.edits[0].shift)
    with pytest.raises(PlanError):
        save_plan(loaded, found, tmp_path / "copy.json")


def test_damaged_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    save_plan(*_example(), path)
    npz = path.with_suffix(".npz")
    npz.write_bytes(npz.read_bytes()[:-30])
    with pytest.raises(PlanError, match=r"plan\.npz"):
        load_plan(path)


def test_arrays_of_another_content_are_refused(tmp_path: Path) -> None:
    plan, arrays = _example()
    path = tmp_path / "plan.json"
    save_plan(plan, arrays, path)
    content: dict[str, Any] = {plan.edits[0].shift.sha256: np.zeros(3, np.float32)}
    np.savez(path.with_suffix(".npz"), **content)
    with pytest.raises(PlanError, match="another"):
        load_plan(path)


def test_arrays_are_found_by_content() -> None:
    arrays = Arrays()
    first = arrays.put(np.arange(3, dtype=np.float32))
    assert arrays.put(np.arange(3, dtype=np.float32)) == first
    assert arrays.put(np.arange(3, dtype=np.float64)) != first
    assert arrays.put(np.arange(3, dtype=np.float32)[None]) != first
    with pytest.raises(PlanError):
        arrays.get(ArrayRef(sha256="0" * 64, shape=(3,)))


@given(candidates)
def test_candidates_do_not_depend_on_order(candidate: Candidate) -> None:
    turned = Candidate(precisions=dict(reversed(candidate.precisions.items())))
    assert turned == candidate
    assert turned.key() == candidate.key()


def test_changing_a_candidate_leaves_it() -> None:
    start = Candidate(precisions={"a": Precision.FLOAT})
    more = start.with_precision({"b": Precision.INT8_WEIGHTS, "a": Precision.INT8})
    assert start.precisions == {"a": Precision.FLOAT}
    assert more.precisions == {"b": Precision.INT8_WEIGHTS}
    assert start.key() != more.key()


def test_plans_are_frozen() -> None:
    plan, _ = _example()
    for field in type(plan).model_fields:
        with pytest.raises(ValueError, match="frozen"):
            setattr(plan, field, None)


def _example() -> tuple[QuantizationPlan, Arrays]:
    arrays = Arrays()
    use = UseRef(node="op", index=0)
    quantizer = Quantizer(
        id="x",
        value="x",
        uses=(use,),
        serves=(use,),
        constant=False,
        spec=QuantizerSpec(dtype="int8"),
        params=QuantParams(scale=(0.5,), zero_point=(0,)),
        group="x",
    )
    plan = QuantizationPlan(
        graph="f" * 64,
        policy=Policy(),
        candidate=Candidate(),
        quantizers=(quantizer,),
        edits=(BiasShift(op="op", shift=arrays.put(np.ones(3, np.float32)), reason="test"),),
        int8_ops=("op",),
        float_ops={"other": "reason"},
    )
    return plan, arrays


def _changed(folder: Path, change: Any) -> Path:
    path = folder / "plan.json"
    save_plan(*_example(), path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def _refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")
