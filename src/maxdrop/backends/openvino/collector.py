"""One watched value over all samples of a calibration pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxdrop.backends.openvino.reductions import ROWS_PER_SAMPLE, Reduced
from maxdrop.data.statistics import Request, TensorStatistics

F32 = NDArray[np.float32]


class _Rows(NamedTuple):
    """Sampled rows: samples int32 (n,), rows float32 (n, r, C)."""

    samples: NDArray[np.int32]
    rows: F32

    def of_every(self, stride: int) -> _Rows:
        """Those of the samples whose number is a multiple of `stride`, in memory of their own."""
        turn = self.samples % stride == 0
        return _Rows(self.samples[turn], self.rows[turn].astype(np.float32, order="C", copy=False))


class Collector:
    """Aggregates one value over the samples.

    Args:
        request: what is watched.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.count = 0
        self._low: list[F32] = []
        self._high: list[F32] = []
        self._sum: NDArray[np.float64] | float = 0.0
        self._channel_low: NDArray[Any] | float = np.inf
        self._channel_high: NDArray[Any] | float = -np.inf
        self._kept: list[_Rows] = []
        self._bytes = 0
        self._stride = 1

    def add(self, found: Reduced, inferences: int = 1) -> None:
        """Take the reductions of some inferences, each of which may hold several samples."""
        low, high, mean, rows = found.low, found.high, found.mean, found.rows
        if low.size == 0:
            return
        if not self.request.batchwise and len(low) > inferences:
            batch, channels = low.shape
            low = low.reshape(inferences, -1, channels).min(axis=1)
            high = high.reshape(inferences, -1, channels).max(axis=1)
            mean = mean.reshape(inferences, -1, channels).mean(axis=1, dtype=np.float64)
            rows = [part.reshape(len(part) * inferences // batch, -1, channels) for part in rows]
        self._low.append(low.min(axis=1).astype(np.float32))
        self._high.append(high.max(axis=1).astype(np.float32))
        self._sum = self._sum + mean.sum(axis=0, dtype=np.float64)
        self._channel_low = np.minimum(self._channel_low, low.min(axis=0))
        self._channel_high = np.maximum(self._channel_high, high.max(axis=0))
        for part in rows:
            self._keep(part)
            self.count += len(part)

    def _keep(self, rows: NDArray[Any]) -> None:
        """Keep the rows of the samples whose turn it is; once the cap is reached, of half as many."""
        if rows.shape[1] > 2 * ROWS_PER_SAMPLE:
            rows = rows[:, :: -(-rows.shape[1] // ROWS_PER_SAMPLE)]
        numbers = np.arange(self.count, self.count + len(rows), dtype=np.int32)
        kept = _Rows(numbers, rows).of_every(self._stride)
        self._kept.append(kept)
        self._bytes += kept.rows.nbytes
        while self._bytes > self.request.most_bytes and sum(len(k.samples) for k in self._kept) > 2:
            self._stride *= 2
            self._kept = [k.of_every(self._stride) for k in self._kept]
            self._bytes = sum(k.rows.nbytes for k in self._kept)

    def result(self) -> TensorStatistics:
        """Statistics over all samples; there must be one."""
        channels = self._kept[0].rows.shape[-1]
        return TensorStatistics(
            np.concatenate(self._low),
            np.concatenate(self._high),
            np.asarray(self._channel_low, np.float32),
            np.asarray(self._channel_high, np.float32),
            (np.asarray(self._sum) / self.count).astype(np.float32),
            np.concatenate([kept.rows.reshape(-1, channels) for kept in self._kept]),
            np.concatenate([np.repeat(kept.samples, kept.rows.shape[1]) for kept in self._kept]),
        )
