"""Every command of the command line, on the bundled model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import openvino as ov
import pytest
from typer.testing import CliRunner

import maxdrop
from maxdrop import cli, delivery, demo
from maxdrop.backends.openvino.probe import probe
from maxdrop.commands.control import ExecutorChoice, ObjectiveName
from maxdrop.commands.data import ArraySamples, Labelled, open_dataset, top1_accuracy
from maxdrop.commands.options import PlacementName
from maxdrop.data.plan import load_plan
from maxdrop.data.spec import Placement
from maxdrop.data.trace import read_trace
from maxdrop.dataset import Dataset
from maxdrop.demo import walkthrough
from maxdrop.executors.choice import ExecutorName
from maxdrop.inspection import MADE_BY_MAXDROP, QUANTIZED, inspect_model
from maxdrop.search.gain import Objective

RUNNER = CliRunner()
LIMIT = ["--max-drop", "0.02"]


@pytest.fixture(autouse=True, scope="module")
def short_timing() -> Iterator[None]:
    """Latency is not what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "_LATENCY_BLOCKS", 3)
        yield


def invoke(*arguments: Any, code: int = 0) -> Any:
    """Run a command and check its exit code; an unexpected error keeps its traceback."""
    done = RUNNER.invoke(cli.app, [str(a) for a in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model as a file, and a few of its samples as arrays."""
    folder = tmp_path_factory.mktemp("cli")
    ov.save_model(demo.load_model(), folder / "float.xml", compress_to_fp16=False)
    calibration, pairs = demo.calibration_items()[:12], demo.validation_items()[:40]
    np.savez(folder / "calibration.npz", image=np.concatenate(calibration))
    np.save(folder / "validation.npy", np.concatenate([image for image, _ in pairs]))
    np.save(folder / "labels.npy", np.array([label for _, label in pairs]))
    (folder / "parts").mkdir()
    for part in range(2):
        np.save(folder / "parts" / f"{part}.npy", np.concatenate(calibration[part * 6 : part * 6 + 6]))
    return folder


def arrays(files: Path) -> list[str]:
    """The arguments of `control` for the array files."""
    return [
        str(files / "float.xml"), "--data", str(files / "calibration.npz"),
        "--validation-data", str(files / "validation.npy"),
    ]  # fmt: skip


def by_accuracy(files: Path) -> list[str]:
    chosen = ["--metric", "accuracy", "--labels", str(files / "labels.npy"), "--allow-slower"]
    return [*arrays(files), *chosen, "--placement", "table"]


PICKY = """
import numpy as np
import openvino as ov
from maxdrop import demo
items = [image for image, _ in demo.validation_items()[:8]]
exact = ov.compile_model(demo.load_model(), "CPU")
def score(compiled, items):
    return -float(np.mean([np.abs(compiled(x)[0] - exact(x)[0]).mean() > 1e-3 for x in items]))
"""


@pytest.fixture
def picky(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Arguments of `control` with a metric that no int8 model meets."""
    (tmp_path / "picky.py").write_text(PICKY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "picky", raising=False)
    data = [files / "float.xml", "--data", files / "calibration.npz", "--validation-data", "picky:items"]
    return [*data, "--validate", "picky:score", "--placement", "table", "--allow-slower"]


@pytest.fixture(scope="module")
def controlled(files: Path) -> tuple[Path, str]:
    """Folder and output of a search that reached its limit."""
    folder = files / "controlled"
    return folder, invoke("control", *by_accuracy(files), *LIMIT, "-o", folder).output


def test_control_writes_everything_and_says_what_it_found(controlled: tuple[Path, str]) -> None:
    folder, output = controlled
    names = {path.name for path in folder.iterdir()}
    assert {"model.xml", "model.bin", "plan.json", "plan.npz", "trace.jsonl", "report.html"} <= names
    assert "within the limit" in output
    assert "evaluations run" in output


def test_control_resumes(files: Path, controlled: tuple[Path, str]) -> None:
    before = (controlled[0] / "model.xml").read_bytes()
    output = invoke("control", *by_accuracy(files), *LIMIT, "-o", controlled[0]).output
    assert "evaluations reused, 0 run" in output
    assert (controlled[0] / "model.xml").read_bytes() == before


def test_control_passes_its_options_on(files: Path, tmp_path: Path) -> None:
    invoke(
        "control", *by_accuracy(files), "--max-drop", "0.9", "--min-metric", "0.1", "--holdout", "0.25", "--seed", "3",
        "--max-validations", "4", "--time-budget", "600", "--compile-config", "INFERENCE_PRECISION_HINT=f32",
        "--drop-type", "relative", "--subset-size", "6", "-o", tmp_path,
    )  # fmt: skip
    settings = read_trace(tmp_path / "trace.jsonl")[0]["settings"]
    assert settings["criterion"]["min_metric"] == 0.1
    assert settings["criterion"]["drop_type"] == "relative"
    assert settings["holdout"] == 0.25
    assert settings["seed"] == 3
    assert settings["subset_size"] == 6
    assert settings["compile_config"] == {"INFERENCE_PRECISION_HINT": "f32"}


def test_control_passes_the_options_of_the_search_on(files: Path, tmp_path: Path) -> None:
    invoke(
        "control", *by_accuracy(files), "--max-drop", "0.9", "--strategy", "greedy", "--objective", "size",
        "--executor", "serial", "--no-progress", "-o", tmp_path,
    )  # fmt: skip
    settings = read_trace(tmp_path / "trace.jsonl")[0]["settings"]
    assert (settings["strategy"], settings["objective"]) == ("greedy", "size")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategy", "random"], "`strategy` must be one of"),
        (["--workers", "2"], "`workers` must be None with executor='serial'"),
        (["--max-drop", "top1=0.1"], "single metric"),
        (["--max-drop", "much"], "`--max-drop` must be a number"),
        (["--compile-config", "NO_SUCH_PROPERTY=1"], "Unsupported property NO_SUCH_PROPERTY"),
        (["--max-validations", "1"], "--max-validations"),
    ],
)
def test_wrong_options_of_the_search_are_refused(
    files: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = invoke("control", *by_accuracy(files), *arguments, "-o", tmp_path / "none", code=2)
    assert message in done.stderr


SEVERAL = """
from maxdrop import demo
def both(compiled, items):
    right = demo.validate(compiled, items)[0]
    return {"top1": right, "wrong": 1.0 - right}
items = demo.validation_items()[:40]
"""


def test_control_limits_several_metrics(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "several.py").write_text(SEVERAL)
    monkeypatch.syspath_prepend(str(tmp_path))
    common = [files / "float.xml", "--data", files / "calibration.npz", "--validation-data", "several:items"]
    common += ["--validate", "several:both", "--placement", "table", "--allow-slower", "-o", tmp_path / "out"]
    limits = ["--max-drop", "top1=0.9", "--max-drop", "wrong=0.8", "--min-metric", "top1=0.1"]
    done = invoke("control", *common, *limits, "--lower-is-better-for", "wrong", "--json")
    found = json.loads(done.stdout)
    assert found["drops"]["top1"] == pytest.approx(found["drops"]["wrong"])
    settings = read_trace(tmp_path / "out" / "trace.jsonl")[0]["settings"]["criterion"]["limits"]
    assert settings["top1"] == {
        "max_drop": 0.9, "drop_type": "absolute", "higher_is_better": True, "min_metric": 0.1,
    }  # fmt: skip
    assert (settings["wrong"]["max_drop"], settings["wrong"]["higher_is_better"]) == (0.8, False)
    done = invoke("control", *common[:-1], tmp_path / "other", code=1)
    assert "on the command line as --max-drop NAME=X" in done.stderr


def test_dry_run_starts_and_writes_nothing(files: Path, tmp_path: Path) -> None:
    done = invoke("control", *by_accuracy(files), *LIMIT, "--dry-run", "-o", tmp_path / "none")
    for part in ("at least   2 validations", "at most    16 validations", "calibration", "ranking", "nothing was"):
        assert part in done.stdout
    assert not (tmp_path / "none").exists()


def test_dry_run_in_json_and_beside_an_earlier_search(files: Path, controlled: tuple[Path, str]) -> None:
    before = {path: path.read_bytes() for path in controlled[0].iterdir()}
    arguments = ["control", *by_accuracy(files), *LIMIT, "--max-validations", "7", "--dry-run", "-o", controlled[0]]
    found = json.loads(invoke(*arguments, "--json").stdout)
    assert (found["least"]["validations"], found["most"]["validations"]) == (2, 7)
    assert found["validation_is_timed"]
    assert "holds an earlier search" in invoke(*arguments).stdout
    assert {path: path.read_bytes() for path in controlled[0].iterdir()} == before


def test_strict_makes_an_error_of_a_limit_that_was_not_reached(picky: list[Any], tmp_path: Path) -> None:
    done = invoke("control", *picky, "--max-drop", "0", "--max-iterations", "0", "--strict", "-o", tmp_path, code=3)
    assert done.stderr.startswith("error: no 8-bit model that pays is within max_drop=0")


def test_other_limits_in_the_same_folder_are_told_apart(files: Path, controlled: tuple[Path, str]) -> None:
    done = invoke("control", *by_accuracy(files), "--max-drop", "0.5", "-o", controlled[0], code=1)
    assert "criterion max_drop was 0.02, now 0.5)" in done.stderr
    assert "Give another output folder" in done.stderr


def test_an_interrupted_run_says_how_to_go_on(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "impatient.py").write_text("def score(compiled, items):\n    raise KeyboardInterrupt\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    score = ["--validate", "impatient:score", "--placement", "table"]
    done = invoke("control", *arrays(files), *score, "-o", tmp_path / "out", code=130)
    assert "the same command goes on with what is in" in done.stderr


def test_control_of_an_unreachable_limit_exits_with_3(picky: list[Any], tmp_path: Path) -> None:
    done = invoke("control", *picky, "--max-drop", "0", "--max-iterations", "0", "-o", tmp_path / "none", code=3)
    assert "this is the float model" in done.stdout
    assert done.stderr.startswith("warning: no 8-bit model")
    assert (tmp_path / "none" / "report.html").exists()


def test_accuracy_is_that_of_the_labels(files: Path, controlled: tuple[Path, str]) -> None:
    pairs = demo.validation_items()[:40]
    expected = demo.validate(ov.compile_model(demo.load_model(), "CPU"), pairs)[0]
    assert f"(float {expected:g})" in controlled[1]


def test_apply_rebuilds_the_same_model(files: Path, controlled: tuple[Path, str], tmp_path: Path) -> None:
    invoke("apply", controlled[0] / "plan.json", files / "float.xml", "-o", tmp_path / "again.xml")
    assert (tmp_path / "again.xml").read_bytes() == (controlled[0] / "model.xml").read_bytes()
    assert (tmp_path / "again.bin").read_bytes() == (controlled[0] / "model.bin").read_bytes()


def test_apply_to_another_model_is_refused(controlled: tuple[Path, str], tmp_path: Path) -> None:
    other = controlled[0] / "model.xml"
    done = invoke("apply", controlled[0], other, "-o", tmp_path / "again.xml", code=1)
    assert done.stderr.startswith("error: a plan fits only the float model")


def test_report_needs_no_model(controlled: tuple[Path, str], tmp_path: Path) -> None:
    for name in ("plan.json", "plan.npz", "trace.jsonl"):
        (tmp_path / name).write_bytes((controlled[0] / name).read_bytes())
    invoke("report", tmp_path)
    assert "Reached" in (tmp_path / "report.html").read_text()


def test_inspect_agrees_with_the_plan(controlled: tuple[Path, str]) -> None:
    plan, _ = load_plan(controlled[0] / "plan.json")
    found = json.loads(invoke("inspect", controlled[0] / "model.xml", "--json").stdout)
    assert found["origin"] == MADE_BY_MAXDROP
    assert {op["name"] for op in found["ops"] if op["planned"]} == set(plan.int8_ops)
    assert {op["name"]: op["reason"] for op in found["ops"] if not op["planned"]} == plan.float_ops
    assert 0 < found["executed_share"] <= 1


def test_inspect_of_float_model_shows_what_quantize_would_do(files: Path) -> None:
    output = invoke("inspect", files / "float.xml").stdout
    assert "depthwise convolution" in output
    assert "executed 0.0%" in output


def test_inspect_with_a_plan(files: Path, controlled: tuple[Path, str]) -> None:
    with_plan = inspect_model(files / "float.xml", controlled[0] / "plan.json")
    alone = inspect_model(controlled[0] / "model.xml")
    assert with_plan.ops == alone.ops


def test_inspect_of_a_model_quantized_elsewhere(controlled: tuple[Path, str]) -> None:
    model = ov.Core().read_model(controlled[0] / "model.xml")
    plain = ov.Model(model.get_results(), model.get_parameters(), "plain")
    found = inspect_model(plain)
    planned = {op.name for op in found.ops if op.planned}
    assert found.origin == QUANTIZED
    assert planned == set(load_plan(controlled[0] / "plan.json")[0].int8_ops)


@pytest.mark.parametrize("data", ["calibration.npz", "parts", "parts/0.npy", "maxdrop.demo:calibration_items"])
def test_quantize_takes_every_kind_of_data(files: Path, tmp_path: Path, data: str) -> None:
    source = data if ":" in data else files / data
    done = invoke(
        "quantize", files / "float.xml", "--data", source, "-o", tmp_path, "--subset-size", 12, "--placement", "table"
    )
    assert "execute in int8" in done.stdout
    ov.Core().read_model(tmp_path / "model.xml")


def test_quantize_honours_the_ignored_scope(files: Path, tmp_path: Path) -> None:
    invoke(
        "quantize", files / "float.xml", "--data", files / "parts", "-o", tmp_path / "q.xml", "--placement", "all",
        "--ignored-names", "stem/conv", "--ignored-patterns", "block1/.*", "--ignored-types", "GroupConvolution",
        "--preset", "mixed",
    )  # fmt: skip
    reasons = {op.name: op.reason for op in inspect_model(tmp_path / "q.xml").ops}
    assert reasons["stem/conv"].startswith("ignored scope")
    assert reasons["block1/expand"].startswith("ignored scope")
    assert reasons["block4/depthwise"].startswith("ignored scope")


def test_the_float_model_is_never_overwritten(files: Path) -> None:
    done = invoke("quantize", files / "float.xml", "--data", files / "parts", "-o", files / "float.xml", code=2)
    assert "must not overwrite the float model" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "missing.npz"], "`--data` must be an existing path"),
        (["--data", "no_such_package.at_all:items"], "there is no module 'no_such_package'"),
        (["--data", "maxdrop.demo:no_such_name"], "has no 'no_such_name'"),
        (["--data", "maxdrop.version:VERSION", "--subset-size", "2"], "every sample must fit"),
        (["--data", "maxdrop.cli:BAD_USAGE"], "`--data` must name a Dataset, a list, or a function"),
        (["--data", "maxdrop.demo:calibration_items", "--subset-size", "0"], "`subset_size` must be >= 1"),
        (["--data", "maxdrop.demo:calibration_items", "--ignored-names", "nothing"], "name 'nothing'"),
    ],
)
def test_bad_usage_gives_one_message(files: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = invoke("quantize", files / "float.xml", *arguments, "-o", tmp_path, code=2)
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    "arguments", [[], ["--metric", "accuracy"], ["--metric", "f1"], ["--metric", "accuracy", "--validate", "a:b"]]
)
def test_control_wants_one_metric(files: Path, tmp_path: Path, arguments: list[str]) -> None:
    done = invoke("control", *arrays(files), *arguments, "-o", tmp_path, code=2)
    assert "--metric" in done.stderr


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.float32(3), "the first axis of each array must be that of the samples"),
        (np.zeros((0, 1, 48, 48), np.float32), "must hold at least one sample"),
        (np.zeros((2, 3, 9, 9), np.float32), "got [1,3,9,9] expecting [1,1,48,48]"),
        (np.array(["a", "b"]), "sample 0 is memmap[1] <U1"),
    ],
)
def test_arrays_that_are_no_samples_are_refused(files: Path, tmp_path: Path, array: Any, message: str) -> None:
    np.save(tmp_path / "x.npy", array)
    done = invoke("quantize", files / "float.xml", "--data", tmp_path / "x.npy", "-o", tmp_path / "out", code=2)
    assert message in done.stderr
    assert "Exception from" not in done.stderr


def test_integers_for_an_input_of_fractions_are_pointed_out(files: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 1, 48, 48), np.uint8))
    data = ["--data", tmp_path / "x.npy", "--placement", "table", "-o", tmp_path / "out"]
    assert (
        "note: `--data`: holds uint8 and the model reads float32"
        in invoke("quantize", files / "float.xml", *data).stderr
    )
    data[1] = files / "parts"
    assert "note" not in invoke("quantize", files / "float.xml", *data).stderr


@pytest.mark.parametrize("command", ["quantize", "control", "apply"])
def test_a_file_in_place_of_the_folder_is_refused(
    files: Path, tmp_path: Path, controlled: tuple[Path, str], command: str
) -> None:
    (tmp_path / "file").write_text("x")
    first: dict[str, list[Any]] = {
        "quantize": [files / "float.xml", "--data", files / "parts"],
        "control": [*by_accuracy(files)],
        "apply": [controlled[0], files / "float.xml"],
    }
    done = invoke(command, *first[command], "-o", tmp_path / "file", code=2)
    assert "`--output` must be a folder, or one that can be made" in done.stderr


@pytest.mark.parametrize("name", ["missing.xml", "notes.txt", "."])
def test_what_is_no_model_is_refused(files: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    done = invoke("quantize", tmp_path / name, "--data", files / "parts", "-o", tmp_path / "out", code=2)
    assert "the model must be an existing file that ends in .xml or .onnx" in done.stderr
    assert not (tmp_path / "out").exists()


def test_labels_beyond_the_classes_are_refused(files: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full(40, 10))
    labels = ["--metric", "accuracy", "--labels", tmp_path / "x.npy", "--placement", "table"]
    done = invoke("control", *arrays(files), *labels, "-o", tmp_path / "out", code=2)
    assert "positions among the model's 10 outputs, counted from 0, but hold 10" in done.stderr


def test_a_function_that_makes_iterators_is_called_for_each_pass(tmp_path: Path) -> None:
    source = "def fresh():\n    return (x for x in range(3))\n"
    (tmp_path / "fresh_items.py").write_text(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        dataset = open_dataset("--data", "fresh_items:fresh")
    assert [list(dataset.get_data()) for _ in range(2)] == [[0, 1, 2]] * 2


def test_too_few_labels_are_refused(files: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.zeros(3, np.int64))
    done = invoke(
        "control", *arrays(files), "--metric", "accuracy", "--labels", tmp_path / "few.npy", "-o", tmp_path, code=2
    )
    assert "one label to a validation sample" in done.stderr


def test_labels_stay_with_their_samples(files: Path) -> None:
    items = Labelled(Dataset(ArraySamples(files / "validation.npy", 7)), files / "labels.npy", 7)
    labels = np.load(files / "labels.npy")
    assert len(items) == 6
    np.testing.assert_array_equal(items[5][1], labels[35:])
    single, batched = demo.load_model(), demo.load_model()
    batched.reshape([-1, 1, 48, 48])
    metric, shares = top1_accuracy(ov.compile_model(batched, "CPU"), [items[5], items[0]])
    expected = demo.validate(
        ov.compile_model(single, "CPU"), [*demo.validation_items()[35:40], *demo.validation_items()[:7]]
    )[1]
    assert metric == pytest.approx(np.mean(expected))
    assert shares == pytest.approx([np.mean(expected[:5]), np.mean(expected[5:])])


def test_batches_of_array_files(files: Path, tmp_path: Path) -> None:
    whole = np.load(files / "validation.npy")
    samples = ArraySamples(files / "validation.npy", 32)
    assert [len(sample) for sample in samples] == [32, 8]
    np.testing.assert_array_equal(np.concatenate(list(samples)), whole)


def test_an_error_of_the_user_keeps_its_traceback(files: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def validate(compiled, items):\n    raise RuntimeError('my own bug')\n")
    command = [sys.executable, "-m", "maxdrop.cli", "control", *arrays(files), "--validate", "mine:validate", "-o", "o"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "mine.py" in done.stderr
    assert done.stderr.rstrip().endswith("RuntimeError: my own bug")


def test_demo_compares_three_models_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = demo.calibration_items()[:12], demo.validation_items()[:40]
    monkeypatch.setattr(walkthrough, "_BLOCKS", 3)
    monkeypatch.setattr(demo, "calibration_items", lambda: few[0])
    monkeypatch.setattr(demo, "validation_items", lambda: few[1])
    arguments = ["demo", "--output-dir", tmp_path / "demo", "--max-drop", "0.5"]
    first = invoke(*arguments).stdout
    assert "plain int8" in first
    assert "evaluations run" in first
    assert "ops stay float" in first
    again = invoke(*arguments).stdout
    assert "evaluations reused, 0 run" in again
    assert (tmp_path / "demo" / "report.html").exists()


def test_probe_agrees_with_the_target_table() -> None:
    from maxdrop.data.graph import OpKind
    from maxdrop.ptq.targets import TARGETS

    found = {(r["op"], r["activations"]): r["int8"] for r in probe()["rows"] if r["weights"] == "per channel"}
    kinds = {
        "convolution": OpKind.CONVOLUTION,
        "depthwise convolution": OpKind.DEPTHWISE_CONVOLUTION,
        "grouped convolution": OpKind.GROUP_CONVOLUTION,
        "matmul": OpKind.MATMUL,
        "transposed convolution": OpKind.CONV_TRANSPOSE,
    }
    for op, kind in kinds.items():
        legal = TARGETS["CPU"][kind].legal
        assert found[op, "int8 symmetric"] is ("symmetric" in legal)
        assert found[op, "asymmetric"] is ("asymmetric" in legal)


def test_probe_prints_a_table_and_json(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"op": "matmul", "activations": "uint8", "weights": "per channel", "int8": True}
    product = {"op": "matmul of two activations", "activations": "uint8", "weights": "", "int8": False}
    facts = {"machine": "a processor", "isa": ["avx2"], "cores": 2, "openvino": "1", "rows": [row, product]}
    monkeypatch.setattr("maxdrop.backends.openvino.probe.probe", lambda: facts)
    assert "a processor, 2 cores; avx2" in invoke("probe").stdout
    assert json.loads(invoke("probe", "--json").stdout) == facts


def test_help_imports_no_framework() -> None:
    code = (
        "import sys\nfrom maxdrop.cli import app\n"
        "print(sorted({'openvino', 'matplotlib', 'jinja2', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_choice_of_python_is_there() -> None:
    assert {name.value for name in PlacementName} == set(get_args(Placement))
    assert {name.value for name in ObjectiveName} == set(get_args(Objective))
    assert {name.value for name in ExecutorChoice} == set(get_args(ExecutorName))


def test_version_and_help() -> None:
    assert invoke("--version").stdout.strip() == maxdrop.__version__
    assert "quantize" in invoke("--help").stdout
