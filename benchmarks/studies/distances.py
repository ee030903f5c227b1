"""Distances between two sets of outputs of one sample; larger is worse, 0 is equal.

A sample is a list of inferences: one for most tasks, two for a pair of sentences.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

Array = NDArray[Any]
Distance = Callable[[Sequence[Array], Sequence[Array]], float]

_PAIRS = {"minilm"}
_DENSE = {"ocr-det", "yolos-t"}  # outputs that are no logits


def distances_of(task: str) -> dict[str, Distance]:
    """The distances that make sense for a task; the first is what maxdrop uses."""
    found: dict[str, Distance] = {"NMSE": nmse, "1-cos": one_minus_cosine, "centred NMSE": centred_nmse}
    if task in _PAIRS:
        found["pair product"] = pair_product
    elif task not in _DENSE:
        found["KL"] = kl_divergence
    return found


def nmse(reference: Sequence[Array], other: Sequence[Array]) -> float:
    """Squared error over squared signal."""
    return float(np.mean([_power(r - o) / max(_power(r), 1e-30) for r, o in zip(reference, other, strict=True)]))


def one_minus_cosine(reference: Sequence[Array], other: Sequence[Array]) -> float:
    """1 - cosine; blind to a change of length."""
    pairs = zip(reference, other, strict=True)
    return float(np.mean([1.0 - _dot(r, o) / max(_norm(r) * _norm(o), 1e-30) for r, o in pairs]))


def centred_nmse(reference: Sequence[Array], other: Sequence[Array]) -> float:
    """NMSE of logits without their mean, which a softmax does not see."""
    return nmse([_centred(r) for r in reference], [_centred(o) for o in other])


def kl_divergence(reference: Sequence[Array], other: Sequence[Array]) -> float:
    """Mean divergence of the classes' probabilities, in nats; takes logits or probabilities."""
    rows = []
    for r, o in zip(reference, other, strict=True):
        p, q = _log_probabilities(r), _log_probabilities(o)
        rows.append(np.sum(np.exp(p) * (p - q), axis=-1).mean())
    return max(float(np.mean(rows)), 0.0)


def pair_product(reference: Sequence[Array], other: Sequence[Array]) -> float:
    """Squared change of the dot product of two embeddings."""
    return (_dot(reference[0], reference[1]) - _dot(other[0], other[1])) ** 2


def _log_probabilities(x: Array) -> NDArray[np.float64]:
    x = x.astype(np.float64)
    if x.min() >= 0.0 and np.allclose(x.sum(axis=-1), 1.0, atol=1e-3):
        return np.log(np.maximum(x, 1e-12))
    return np.asarray(log_softmax(x, axis=-1))


def _centred(x: Array) -> Array:
    return np.asarray(x - x.mean(axis=-1, keepdims=True))


def _power(x: Array) -> float:
    return float(np.square(x, dtype=np.float64).sum())


def _dot(a: Array, b: Array) -> float:
    return float(a.ravel().astype(np.float64) @ b.ravel().astype(np.float64))


def _norm(x: Array) -> float:
    return float(np.sqrt(_power(x)))
