"""The whole of maxdrop in one file: graph -> statistics -> plan -> search -> best.

It runs on the toy backend, in which a model is a list of named numpy ops, so nothing but numpy computes here and
every step can be printed. All other parts are the real ones: `maxdrop.control_accuracy` does the same with a real
backend, and adds checks, progress, resuming and a report.

    python examples/mini.py
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.plan import Candidate
from maxdrop.data.spec import Policy, Precision
from maxdrop.data.trace import Trace, TraceHeader
from maxdrop.dataset import Dataset
from maxdrop.executors.materials import Materials
from maxdrop.executors.serial import SerialExecutor
from maxdrop.ptq.build import Planner
from maxdrop.ptq.calibration import calibration_requests
from maxdrop.ptq.payoff import choose_int8
from maxdrop.search.budget import Budget
from maxdrop.search.criterion import Criterion
from maxdrop.search.limits import Limits
from maxdrop.search.loop import best_passing, run_search
from maxdrop.search.scoring import Scorer
from maxdrop.search.sensitivity import add_weight_error, measure_sensitivity
from maxdrop.search.space import SearchSpace
from maxdrop.search.strategies import STRATEGIES
from maxdrop.testing.toy_backend import ToyBackend, ToyCompiled
from maxdrop.testing.toy_model import ToyModel, ToyOp
from maxdrop.validation import ValidationItems

WIDTH, LAYERS, CLASSES, MAX_DROP = 32, 8, 10, 0.03
OFFSETS = {2: 100.0, 5: 400.0}
"""Layers that are hard to quantize: what they read is this far from zero, so that an int8 step is coarse."""


def make_model(rng: np.random.Generator) -> ToyModel:
    """A perceptron. An offset is added in front of some layers, and what it adds to the output taken off again."""
    ops, constants = [ToyOp("x", "Parameter", attrs={"width": WIDTH})], {}
    previous = "x"
    for layer in range(LAYERS):
        width = CLASSES if layer == LAYERS - 1 else WIDTH
        weight = rng.normal(0.0, (2.0 / WIDTH) ** 0.5, (WIDTH, width)).astype(np.float32)
        offset = np.full(WIDTH, OFFSETS.get(layer, 0.0), np.float32)
        constants.update({f"weight{layer}": weight, f"up{layer}": offset, f"down{layer}": -offset @ weight})
        ops += [ToyOp(f"{name}{layer}", "Constant") for name in ("weight", "up", "down")]
        ops += [
            ToyOp(f"shifted{layer}", "Add", (previous, f"up{layer}")),
            ToyOp(f"layer{layer}", "MatMul", (f"shifted{layer}", f"weight{layer}")),
            ToyOp(f"centred{layer}", "Add", (f"layer{layer}", f"down{layer}")),
            ToyOp(f"relu{layer}", "Relu", (f"centred{layer}",)),
        ]
        previous = f"relu{layer}"
    return ToyModel([*ops, ToyOp("logits", "Result", (f"centred{LAYERS - 1}",))], constants)


def main() -> None:
    """Quantize the toy model as far as the limit allows, and say what happened."""
    rng = np.random.default_rng(0)
    backend, model = ToyBackend(), make_model(rng)
    calibration = [rng.normal(size=(64, WIDTH)).astype(np.float32) for _ in range(8)]
    images = rng.normal(size=(1000, WIDTH)).astype(np.float32)
    labels = model.run(images)[0].argmax(axis=1)
    validation = Dataset([(images, labels)])

    def validate(compiled: ToyCompiled, items: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> float:
        return float(np.mean([compiled(x)[0].argmax(axis=1) == answer for x, answer in items]))

    # 1. Graph: a read-only view, in which every op and value has a name.
    graph = backend.graph(model)
    print(f"graph: {len(graph)} ops, {len(graph.contractions)} of them multiply")

    # 2. Statistics: one pass over the calibration data, for every plan that may ever be asked for.
    policy = Policy()
    int8_ops, _ = choose_int8(graph, policy)
    statistics = backend.observe(model, calibration_requests(graph, int8_ops), calibration, lambda done: None)

    # 3. Plan: what is quantized, where, with which numbers. Plain data, made without running the model.
    planner = Planner(graph, policy, statistics)
    everything = planner(Candidate())
    print(f"plan:  {len(everything.quantizers)} quantizers, {len(everything.edits)} bias shifts")

    # 4. Score the float model and the fully quantized one. Every trial goes into the trace.
    criterion = Criterion(max_drop=MAX_DROP)
    trace = Trace(None, TraceHeader(versions=backend.versions, model=graph.fingerprint, settings={}))
    scorer = Scorer(validate, ValidationItems(validation), Limits(criteria={"": criterion}))
    executor = SerialExecutor(Materials(backend, model, planner, {}, trace), scorer)
    floating, int8 = executor.score_float(), executor.run(Candidate(), "int8")

    # 5. Search: which ops disturb the output when they alone are quantized, against the time that int8 saves on them.
    measured = measure_sensitivity(backend.switchable(model, everything), calibration[:2], lambda done: None)
    macs = {op: graph.node(op).macs for op in planner.int8_ops}
    space = SearchSpace(
        ops=tuple(planner.int8_ops),
        sensitivity=add_weight_error(measured, graph, everything, statistics),
        gain={op: count / sum(macs.values()) for op, count in macs.items()},
        reverted=Precision.FLOAT,
        int8_drop=int8.drop or 0.0,
    )
    if not criterion.passes(space.int8_drop):
        strategy, budget = STRATEGIES["bracket"], Budget(max_evaluations=50)
        run_search(strategy, space, criterion, executor.run, budget, executor.knows, trace.trials)
    for trial in trace.trials:
        floats = "all" if trial.candidate is None else ", ".join(trial.candidate.precisions) or "none"
        print(f"trial {trial.number}: drop {trial.drop:.3f}, float: {floats}")

    # 6. Best: the fastest candidate within the limit; without one, the float model stays.
    best = best_passing(trace.trials, space, criterion) or floating
    result = model if best.candidate is None else backend.apply(model, planner(best.candidate), planner.arrays)
    before, after = backend.latency([model, result], {}, [images], blocks=1)[:, 0]
    print(f"best:  drop {best.drop:.3f} of {MAX_DROP} allowed, {before / after:.2f}x as fast (made-up seconds)")


if __name__ == "__main__":
    main()
