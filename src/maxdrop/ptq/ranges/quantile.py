"""The range without the rarest elements: robust to single spikes, dangerous where the tails are long."""

from __future__ import annotations

import numpy as np

from maxdrop.data.spec import QuantizerSpec
from maxdrop.data.statistics import TensorStatistics

OUTLIERS = 1e-4


def quantile_range(statistics: TensorStatistics, spec: QuantizerSpec) -> tuple[float, float]:
    """Leaves out the share `OUTLIERS` of the sampled elements at each end."""
    low, high = np.quantile(statistics.rows.astype(np.float64), [OUTLIERS, 1.0 - OUTLIERS])
    return float(low), float(high)
