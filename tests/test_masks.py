"""Scores of attention that an int8 kernel computes wrongly where it runs in tiles."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from maxdrop.backends.openvino import masks
from tests.graphs.check import BACKEND
from tests.graphs.layers import const, model, named, parameter


def scores_with(mask: tuple[int, ...] | None, *, scaled: bool) -> ov.Model:
    """Attention from activations, with a mask of this shape."""
    q, k, v = (parameter((1, 4, 16, 8), name) for name in "qkv")
    scores = named(op.matmul(q, k, False, True), "qk")
    if scaled:
        scores = op.multiply(scores, const(np.float32(0.3)))
    if mask is not None:
        scores = op.add(const(np.zeros(mask, np.float32)), scores)
    return model([named(op.matmul(op.softmax(scores, -1), v, False, False), "pv")], [q, k, v])


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize(
    ("mask", "wrong"),
    [((1, 1, 1, 16), True), ((16,), True), ((1, 1, 16, 16), False), ((1, 4, 16, 16), False), (None, False)],
)
def test_only_a_mask_for_all_rows_keeps_a_product_float_and_only_in_tiles(
    mask: tuple[int, ...] | None, wrong: bool, scaled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tiles in (True, False):
        monkeypatch.setattr(masks, "has_int8_tiles", lambda tiles=tiles: tiles)
        graph = BACKEND.graph(scores_with(mask, scaled=scaled))
        assert ("float_only" in graph.node("qk").attrs) is (wrong and tiles)
        assert "float_only" not in graph.node("pv").attrs
