"""The range from a fitted distribution, in closed form.

Banner et al., "Post-training 4-bit quantization of convolution networks for rapid-deployment" (ACIQ, arXiv
1810.05723), with the optimal clipping for 8 bits.
"""

from __future__ import annotations

import numpy as np

from maxdrop.data.spec import QuantizerSpec
from maxdrop.data.statistics import TensorStatistics

GAUSS = 3.92
"""Clipping of a Gaussian in standard deviations."""

LAPLACE = 9.89
"""Clipping of a Laplacian in mean absolute deviations."""

_KURTOSIS = 4.5  # half way between that of a Gaussian, 3, and of a Laplacian, 6


def aciq_range(statistics: TensorStatistics, spec: QuantizerSpec) -> tuple[float, float]:
    """Fits a Gaussian or a Laplacian, whichever the kurtosis speaks for, to the sampled elements.

    What is never negative is taken as one half of a distribution around zero. Never wider than what was seen.
    """
    elements = statistics.rows.astype(np.float64)
    lowest, highest = float(statistics.sample_min.min()), float(statistics.sample_max.max())
    center = 0.0 if lowest >= 0.0 or highest <= 0.0 else float(elements.mean())
    away = np.abs(elements - center)
    size = float(away.max())
    if size == 0.0:
        return lowest, highest
    away /= size  # so that no power overflows
    variance = float(np.square(away).mean())
    heavy = float((away**4).mean()) > _KURTOSIS * variance**2
    reach = size * (LAPLACE * float(away.mean()) if heavy else GAUSS * variance**0.5)
    return max(lowest, center - reach), min(highest, center + reach)
