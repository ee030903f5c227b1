"""Samples from array files, or from the user's own code."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from maxdrop.data.graph import Graph, OpKind
from maxdrop.dataset import Dataset
from maxdrop.errors import ValidationError

_SUFFIXES = (".npy", ".npz")


class ArraySamples(Sequence[Any]):
    """Slices of arrays along their first axis: an array for .npy, a dict by input name for .npz.

    Args:
        path: an array file, or a folder of them, which are taken in the order of their names.
        batch_size: length of a slice; the last one of a file may be shorter.
    """

    def __init__(self, path: Path, batch_size: int = 1) -> None:
        files = sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES) if path.is_dir() else [path]
        if not files or any(p.suffix not in _SUFFIXES for p in files):
            message = f"data must be an .npy or .npz file, or a folder that holds some, but got {path}"
            raise ValidationError(message)
        self._parts = [_load(p) for p in files]
        if not any(len(array) for arrays in self._parts for array in arrays.values()):
            message = f"data must hold at least one sample along the first axis, but {path} holds none"
            raise ValidationError(message)
        self._index = [
            (part, start)
            for part, arrays in enumerate(self._parts)
            for start in range(0, len(next(iter(arrays.values()))), batch_size)
        ]
        self._batch_size = batch_size

    def __len__(self) -> int:
        return len(self._index)

    @property
    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """Of the arrays of the first file, by input name; "" for the only one of an .npy file."""
        return {name: array.dtype for name, array in self._parts[0].items()}

    def __getitem__(self, position: Any) -> Any:
        part, start = self._index[position]
        slices = {name: array[start : start + self._batch_size] for name, array in self._parts[part].items()}
        return slices[""] if "" in slices else slices


def _load(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays by input name; "" for the only one of an .npy file, which is not read into memory."""
    try:
        if path.suffix == ".npy":
            arrays = {"": np.load(path, mmap_mode="r", allow_pickle=False)}
        else:
            with np.load(path, allow_pickle=False) as data:
                arrays = {name: data[name] for name in data.files}
    except (OSError, ValueError) as error:
        message = f"{path} must hold plain numpy arrays, but: {error}"
        raise ValidationError(message) from error
    shapes = {name or "array": array.shape for name, array in arrays.items()}
    if not arrays or not all(shapes.values()) or len({shape[0] for shape in shapes.values()}) != 1:
        message = (
            f"the first axis of each array must be that of the samples, equally long in all of {path}, but the shapes "
            f"are {shapes}; add an axis with array[None]"
        )
        raise ValidationError(message)
    return arrays


def open_dataset(option: str, spec: str, batch_size: int = 1) -> Dataset:
    """The dataset behind an option of the command line.

    Args:
        option: its name, for messages.
        spec: path of array files, or "pkg.mod:name".
        batch_size: for array files.

    Raises:
        ValidationError: it is neither.
    """
    if Path(spec).exists():
        return Dataset(ArraySamples(Path(spec), batch_size))
    source = found = import_object(option, spec, "an existing path, or pkg.mod:name")
    if callable(found) and not hasattr(found, "__iter__") and not isinstance(found, Dataset):
        found = found()
    if isinstance(found, Dataset):
        return found
    if not hasattr(found, "__iter__") and not hasattr(found, "__getitem__"):
        message = (
            f"`{option}` must name a Dataset, a list, or a function that returns one of these or an iterator, but "
            f"{spec} {'returns' if callable(source) else 'is'} {type(found).__name__}"
        )
        raise ValidationError(message)
    # A function that makes iterators is called again for each pass.
    is_iterator = hasattr(found, "__next__")
    return Dataset(source if is_iterator and callable(source) else found)


def note_conversions(option: str, dataset: Dataset, graph: Graph) -> None:
    """Say on standard error where arrays of integers meet inputs of fractions or the other way round.

    The runtime converts them without a word, which is right for integers in the range that the model was trained with
    and a common mistake otherwise.

    Args:
        option: where the data came from.
        dataset: only array files are looked at.
        graph: of the model.
    """
    samples = dataset.source
    if not isinstance(samples, ArraySamples):
        return
    inputs = [(node, graph.value(node.outputs[0])) for node in graph if node.kind is OpKind.PARAMETER]
    wanted = {name: value.dtype for node, value in inputs for name in (node.name, value.name)}
    for name, dtype in samples.dtypes.items():
        expected = wanted.get(name) if name else next(iter(wanted.values()), None)
        if expected is not None and _is_integer(dtype.name) != _is_integer(expected):
            which = f"`{name}` " if name else ""
            typer.echo(
                f"note: `{option}`: {which}holds {dtype} and the model reads {expected}; the values are converted as "
                "they are, so they must be in the range that the model was trained with",
                err=True,
            )


def _is_integer(dtype: str) -> bool:
    return dtype.startswith(("int", "uint", "bool"))


def import_function(option: str, spec: str) -> Any:
    """The function that "pkg.mod:name" names.

    Raises:
        ValidationError: there is none.
    """
    found = import_object(option, spec)
    if not callable(found):
        message = f"`{option}` must name a function, but {spec} is {type(found).__name__}"
        raise ValidationError(message)
    return found


def import_object(option: str, spec: str, wanted: str = "pkg.mod:name") -> Any:
    """What "pkg.mod:name" names; modules of the working directory are found too.

    Args:
        option: where the user gave it, for messages.
        spec: what the user gave.
        wanted: what the option takes, for messages.

    Raises:
        ValidationError: there is no such module or name.
    """
    module_name, colon, name = spec.partition(":")
    if not colon or not name or not all(part.isidentifier() for part in module_name.split(".")):
        message = f"`{option}` must be {wanted}, but got {spec!r}"
        raise ValidationError(message)
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # a module of the user's that imports something missing
        message = f"`{option}` must be {wanted}, but there is no module {error.name!r} (got {spec!r})"
        raise ValidationError(message) from error
    if not hasattr(module, name):
        message = f"`{option}` must be {wanted}, but module {module_name!r} has no {name!r}"
        raise ValidationError(message)
    return getattr(module, name)


class Labelled(Sequence[Any]):
    """Pairs of an item and its labels; the search may take items in any order and leave some out.

    Args:
        dataset: of known length.
        labels: .npy file with one integer to a sample.
        batch_size: samples to an item.

    Raises:
        ValidationError: the labels do not fit the items.
    """

    def __init__(self, dataset: Dataset, labels: Path, batch_size: int) -> None:
        truth = _load(labels).get("") if labels.suffix == ".npy" else None
        if truth is None or truth.ndim != 1 or not np.issubdtype(truth.dtype, np.integer):
            message = f"`--labels` must be an .npy file with one integer to a sample, but got {labels}"
            raise ValidationError(message)
        length = dataset.get_length()
        if length != -(-len(truth) // batch_size):
            message = (
                f"`--labels` must hold one label to a validation sample, but holds {len(truth)} for {length} items "
                f"of {batch_size}"
            )
            raise ValidationError(message)
        self._dataset = dataset
        self._truth = truth
        self._batch_size = batch_size
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: Any) -> Any:
        if not 0 <= position < self._length:
            raise IndexError(position)
        start = position * self._batch_size
        sample = next(iter(self._dataset.get_data([position])))
        return sample, self._truth[start : start + self._batch_size]


def top1_accuracy(compiled_model: Any, items: Iterable[Any]) -> tuple[float, list[float]]:
    """Share of samples whose largest first output is at the label.

    Args:
        compiled_model: a classifier.
        items: of `Labelled`.

    Returns:
        The accuracy, and the share of each item.

    Raises:
        ValidationError: samples do not fit the model, or labels do not fit its outputs.
    """
    from maxdrop.backends.openvino.feed import infer

    request = compiled_model.create_infer_request()
    hits = []
    for number, (sample, truth) in enumerate(items):
        infer(request, sample, number)
        hits.append(_hits(request.get_output_tensor(0).data, truth))
    flat = np.concatenate(hits)
    # With items of several samples, or a shorter last one, the mean over items is another number.
    return float(flat.mean()), [float(hit.mean()) for hit in hits]


def _hits(scores: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    classes = scores.reshape(len(scores), -1)
    if len(truth) != len(classes):
        message = f"`--labels` must hold one label to a validation sample, but {len(classes)} met {len(truth)}"
        raise ValidationError(message)
    if truth.min() < 0 or truth.max() >= classes.shape[1]:
        message = (
            f"`--labels` must be positions among the model's {classes.shape[1]} outputs, counted from 0, but hold "
            f"{truth.min() if truth.min() < 0 else truth.max()}"
        )
        raise ValidationError(message)
    return np.asarray(classes.argmax(axis=1) == truth, np.float64)
