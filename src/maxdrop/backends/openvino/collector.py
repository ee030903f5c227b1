"""One watched value over all samples of a calibration pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.backends.openvino.reductions import ROWS_PER_SAMPLE, Reduced
from maxdrop.data.statistics import Request, TensorStatistics

_F32 = np.float32
_TOGETHER = 32
"""Inferences that are aggregated at once: numpy's overhead would be most of the work for one."""


class Collector:
    """Aggregates one value over the samples.

    Args:
        request: what is watched.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.count = 0
        self._waiting: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []
        self._low: list[NDArray[Any]] = []
        self._high: list[NDArray[Any]] = []
        self._sum: NDArray[np.float64] | float = 0.0
        self._channel_low: NDArray[Any] | float = np.inf
        self._channel_high: NDArray[Any] | float = -np.inf
        self._rows: list[NDArray[Any]] = []
        self._row_sample: list[int] = []
        self._stride = 1
        self._bytes = 0

    def add(self, found: Reduced) -> None:
        """Take the reductions of one inference, which may hold several samples."""
        low, high, mean, rows = found.low, found.high, found.mean, found.rows
        if low.size == 0:
            return
        if not self.request.batchwise and len(low) > 1:
            low, high = low.min(axis=0, keepdims=True), high.max(axis=0, keepdims=True)
            mean = mean.mean(axis=0, keepdims=True, dtype=np.float64)
            rows = rows.reshape(1, -1, rows.shape[-1])
        self._waiting.append((low, high, mean))
        for part in rows:
            self._keep(part)
        if len(self._waiting) == _TOGETHER:
            self._aggregate()

    def _aggregate(self) -> None:
        if not self._waiting:
            return
        low, high, mean = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting = []
        self._low.append(low.min(axis=1))
        self._high.append(high.max(axis=1))
        self._sum = self._sum + mean.sum(axis=0, dtype=np.float64)
        self._channel_low = np.minimum(self._channel_low, low.min(axis=0))
        self._channel_high = np.maximum(self._channel_high, high.max(axis=0))

    def _keep(self, part: NDArray[Any]) -> None:
        """Keep a sample's rows if its turn; once the cap is reached, keep half as many samples."""
        if self.count % self._stride == 0:
            if len(part) > 2 * ROWS_PER_SAMPLE:
                part = part[:: -(-len(part) // ROWS_PER_SAMPLE)]
            self._rows.append(part.astype(_F32, order="C"))
            self._row_sample.append(self.count)
            self._bytes += self._rows[-1].nbytes
            if self._bytes > self.request.most_bytes and len(self._rows) > 2:
                self._thin()
        self.count += 1

    def _thin(self) -> None:
        self._stride *= 2
        kept = [i for i, n in enumerate(self._row_sample) if n % self._stride == 0]
        self._rows = [self._rows[i] for i in kept]
        self._row_sample = [self._row_sample[i] for i in kept]
        self._bytes = sum(part.nbytes for part in self._rows)

    def result(self) -> TensorStatistics:
        """Statistics over all samples; there must be one."""
        self._aggregate()
        sizes = [len(r) for r in self._rows]
        return TensorStatistics(
            np.concatenate(self._low).astype(_F32),
            np.concatenate(self._high).astype(_F32),
            np.asarray(self._channel_low, _F32),
            np.asarray(self._channel_high, _F32),
            (np.asarray(self._sum) / self.count).astype(_F32),
            np.concatenate(self._rows),
            np.repeat(np.asarray(self._row_sample, np.int32), sizes),
        )
