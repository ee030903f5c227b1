"""What one calibration pass yields, for every value that any plan could need."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import gcd
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maxdrop.errors import ValidationError

F32 = NDArray[np.float32]


DEFAULT_MEMORY = 512 * 2**20
"""Bytes of sampled rows that the statistics of a model may hold, unless the user says otherwise."""


@dataclass(frozen=True)
class Request:
    """Ask a backend to watch one value.

    Attributes:
        value: name of the value.
        channel_axis: the axis whose indices are channels (negative counts from the end).
        is_second: whether another request watches the same value with other channels and comes first.
        batchwise: whether each index of the first axis is a sample of its own, or a whole inference is one.
        most_bytes: of sampled rows to hold; two samples are held in any case.
    """

    value: str
    channel_axis: int
    is_second: bool = False
    batchwise: bool = True
    most_bytes: int = DEFAULT_MEMORY

    @property
    def key(self) -> str:
        """Under which name the statistics are found."""
        return along(self.value, self.channel_axis) if self.is_second else self.value


def along(value: str, channel_axis: int) -> str:
    """The name of a value's statistics when another request watches it with other channels."""
    return f"{value} along axis {channel_axis}"


@dataclass(frozen=True)
class TensorStatistics:
    """Statistics of one value over n samples, with C channels.

    Attributes:
        sample_min, sample_max: float32 (n,): extremes of each sample.
        channel_min, channel_max: float32 (C,): extremes of each channel over all samples.
        channel_mean: float32 (C,): mean of each channel over all samples.
        rows: float32 (r, C): a bounded sample of positions, all channels of each.
        row_sample: int32 (r,): the sample that each row came from, ascending.
    """

    sample_min: F32
    sample_max: F32
    channel_min: F32
    channel_max: F32
    channel_mean: F32
    rows: F32
    row_sample: NDArray[np.int32]

    @property
    def count(self) -> int:
        """Number of samples seen."""
        return len(self.sample_min)

    def merge(self, later: TensorStatistics) -> TensorStatistics:
        """Statistics of these samples followed by those of `later`."""
        total = self.count + later.count
        mean = (self.channel_mean * self.count + later.channel_mean * later.count) / total
        return TensorStatistics(
            np.concatenate([self.sample_min, later.sample_min]),
            np.concatenate([self.sample_max, later.sample_max]),
            np.minimum(self.channel_min, later.channel_min),
            np.maximum(self.channel_max, later.channel_max),
            mean.astype(np.float32),
            np.concatenate([self.rows, later.rows]),
            np.concatenate([self.row_sample, later.row_sample + np.int32(self.count)]),
        )

    def _folded(self, count: int) -> TensorStatistics:
        """The same with every `self.count / count` neighbouring samples taken as one."""
        return replace(
            self,
            sample_min=self.sample_min.reshape(count, -1).min(axis=1),
            sample_max=self.sample_max.reshape(count, -1).max(axis=1),
            row_sample=self.row_sample // np.int32(self.count // count),
        )

    @property
    def is_finite(self) -> bool:
        """Whether neither NaN nor infinity was seen."""
        # A runtime's minimum and maximum may skip NaN; its mean cannot.
        return all(np.isfinite(x).all() for x in (self.sample_min, self.sample_max, self.channel_mean))


_FIELDS = tuple(TensorStatistics.__dataclass_fields__)


class Statistics:
    """Tensor statistics by value name.

    Args:
        tensors: statistics of each watched value, by `Request.key`.
        graph: fingerprint of the model that was watched.
    """

    def __init__(self, tensors: Mapping[str, TensorStatistics], graph: str) -> None:
        self.tensors = dict(tensors)
        self.graph = graph

    def __getitem__(self, value: str) -> TensorStatistics:
        return self.tensors[value]

    def along(self, value: str, channel_axis: int) -> TensorStatistics:
        """Statistics of a value with the channels of a reader that sums over `channel_axis`."""
        return self.tensors.get(along(value, channel_axis)) or self.tensors[value]

    def __contains__(self, value: object) -> bool:
        return value in self.tensors

    def merge(self, later: Statistics) -> Statistics:
        """Statistics of these samples followed by those of `later`.

        Raises:
            ValidationError: when the two come from different models or watched different values.
        """
        if self.graph != later.graph or self.tensors.keys() != later.tensors.keys():
            message = "statistics can be merged only when they watched the same values of the same model"
            raise ValidationError(message)
        return Statistics({name: self[name].merge(later[name]) for name in self.tensors}, self.graph)

    def save(self, path: Path) -> None:
        """Write everything to one .npz file, atomically."""
        names = sorted(self.tensors)
        arrays = {f"{i}.{key}": getattr(self[name], key) for i, name in enumerate(names) for key in _FIELDS}
        header = json.dumps({"graph": self.graph, "names": names})
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, header=np.array(header), **arrays)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """Read what `save` wrote."""
        with np.load(path) as data:
            header = json.loads(str(data["header"]))
            tensors = {
                name: TensorStatistics(*(data[f"{i}.{key}"] for key in _FIELDS))
                for i, name in enumerate(header["names"])
            }
        return cls(tensors, header["graph"])


def merge_ranges(parts: Iterable[TensorStatistics]) -> TensorStatistics:
    """One tensor's worth of statistics for values that share a quantizer.

    Channels of different values need not match, so the result has a single channel and its rows are the
    elements of all rows, one to a row.
    """
    found = list(parts)
    if len(found) == 1:
        return found[0]
    # Where a layout op turned pixels or tokens into samples, go back to the samples of the coarsest part.
    count = gcd(*(part.count for part in found))
    found = [part._folded(count) for part in found]
    rows = np.concatenate([part.rows.reshape(-1, 1) for part in found])
    row_sample = np.concatenate([np.repeat(part.row_sample, part.rows.shape[1]) for part in found])
    order = np.argsort(row_sample, kind="stable")
    return TensorStatistics(
        np.minimum.reduce([part.sample_min for part in found]),
        np.maximum.reduce([part.sample_max for part in found]),
        np.min([part.channel_min.min() for part in found], keepdims=True),
        np.max([part.channel_max.max() for part in found], keepdims=True),
        np.mean([part.channel_mean.mean() for part in found], keepdims=True),
        rows[order],
        row_sample[order],
    )
