"""Outputs of neighbouring inferences, read together."""

from __future__ import annotations

import numpy as np
import pytest

from maxdrop.backends.openvino import streaming
from maxdrop.backends.openvino.streaming import joined


@pytest.mark.parametrize("waiting", [1, 400, 2**30])
@pytest.mark.parametrize("copied", [0, 2**18])
def test_every_output_comes_once_and_in_order(waiting: int, copied: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_WAITING_BYTES", waiting)
    monkeypatch.setattr(streaming, "_JOINED_BYTES", copied)
    batches = [1] * 70 + [2, 1, 3, 3]
    outputs = [
        [np.full((batch, 8), number, np.float32), np.full((batch, number % 3 + 1), number, np.float32)]
        for number, batch in enumerate(batches)
    ]
    parts = list(joined(iter(outputs)))
    assert sum(count for count, _ in parts) == len(batches)
    for which in (0, 1):
        found = [array.ravel() for _, output in parts for array in output[which]]
        np.testing.assert_array_equal(np.concatenate(found), np.concatenate([o[which].ravel() for o in outputs]))
    assert all(count == 1 or sum(a.nbytes for each in part for a in each) <= waiting for count, part in parts)
    assert max(count for count, _ in parts) == {1: 1, 400: 10, 2**30: 32}[waiting]  # 36 to 44 bytes each
