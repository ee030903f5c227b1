"""One search with workers in a process of its own, for the tests that interrupt or kill it. Usage: FOLDER."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from maxdrop.control import AccuracyControl, ControlOptions
from maxdrop.data.spec import Policy
from maxdrop.dataset import Dataset
from maxdrop.options import AdvancedAccuracyRestorerParameters
from maxdrop.preparation import Prepared
from maxdrop.progress import ProgressReporter
from maxdrop.resolve import QuantizeOptions
from maxdrop.result import AccuracyControlResult
from maxdrop.search.criterion import Criterion
from maxdrop.testing.executor_suite import Items, make_case


def search(folder: Path, max_drop: float = 0.09, slow: float = 0.0, **options: object) -> AccuracyControlResult:
    """A search on the toy model of the suite.

    Args:
        folder: where calls are logged.
        max_drop: the limit, which the fully quantized model breaks.
        slow: seconds that an item takes.
        options: `executor` and `workers`, and fields of the validation function.
    """
    chosen = {name: options.pop(name) for name in ("executor", "workers") if name in options}
    case = make_case(folder, slow=slow, **options)
    control = ControlOptions(
        Criterion(max_drop=max_drop),
        AdvancedAccuracyRestorerParameters(),
        {},
        deadline=None,
        output_dir=None,
        allow_slower=True,
        **chosen,  # type: ignore[arg-type]
    )
    prepared = Prepared(case.backend, case.model, case.backend.graph(case.model), Policy())
    source = case.scorer.ingredients["the validation items"]
    assert isinstance(source, Items)
    run = AccuracyControl(prepared, QuantizeOptions(), control, ProgressReporter(False))
    return run.run(Dataset(case.samples), Dataset(source.pairs), case.function)


if __name__ == "__main__":
    # A shell that starts a job in the background makes it, and all below it, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(search(Path(sys.argv[1]), slow=0.05, executor="processes", workers=2).stop_reason)
