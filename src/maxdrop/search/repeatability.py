"""Whether equal calls of the user's function give equal metrics, and whether parts of the data can be scored."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from maxdrop.data.trace import Trial
from maxdrop.search.limits import Limits

REPEATED_ITEMS = 16


def compare_two_calls(score: Callable[[], Any], limits: Limits, count: int, floating: Trial) -> dict[str, Any]:
    """Score the first few items twice and warn when the metrics differ.

    A function that cannot score so few items (a correlation, say) is left alone; the note says why.

    Args:
        score: calls the user's function on the float model and the first `count` items.
        limits: reads what the function returns.
        count: number of items.
        floating: the float model's trial on all items.

    Returns:
        A note: whether the calls could be made, whether they gave equal metrics, and whether the single items got the
        values that they got among all others.
    """
    try:
        first, second = (limits.read(score()) for _ in range(2))
    except Exception as error:  # the user's function may rightly refuse a subset
        return {"checked": False, "reason": f"{type(error).__name__}: {error}"}
    same = (first.metric, first.metrics) == (second.metric, second.metrics)
    if not same:
        warnings.warn(
            f"the validation function must return the same metric for the same model and items, but scoring the "
            f"first {count} items twice gave {first.metrics or first.metric} and {second.metrics or second.metric}; "
            "the drop cannot be told from this noise. Fix its seeds, and do not shuffle the validation data",
            stacklevel=7,
        )
    whole = floating.per_item
    parts = whole is not None and first.per_item is not None and first.per_item == whole[:count]
    return {"checked": True, "equal": same, "items_alone_equal": parts}
