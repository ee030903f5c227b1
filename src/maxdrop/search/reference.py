"""The float model's outputs on a few samples, and how far those of the fully quantized model are from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxdrop.data.plan import Candidate
from maxdrop.data.protocols import Backend
from maxdrop.ptq.build import Planner
from maxdrop.search.sensitivity import output_distance

Errors = NDArray[np.float64]


class Reference:
    """What quantized models are compared with; runs the float model once.

    Args:
        backend: of the model.
        model: the float model.
        config: the user's compile configuration, with which outputs are compared.
        samples: a few calibration samples.
    """

    def __init__(self, backend: Backend[Any], model: Any, config: Mapping[str, Any], samples: Sequence[Any]) -> None:
        self._backend, self._model, self._config, self._samples = backend, model, config, samples
        self._exact = list(backend.outputs(model, config, samples))

    def errors(self, planner: Planner) -> Errors:
        """Output error of the planner's fully quantized model, float64 (samples,)."""
        quantized = self._backend.apply(self._model, planner(Candidate()), planner.arrays)
        outputs = self._backend.outputs(quantized, self._config, self._samples)
        return np.array([output_distance(a, b) for a, b in zip(self._exact, outputs, strict=True)])
