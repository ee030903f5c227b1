"""Validation items that the search never sees, to score its result on once."""

from __future__ import annotations

import numpy as np

from maxdrop.errors import ValidationError


def split_holdout(count: int | None, share: float, seed: int) -> tuple[list[int] | None, list[int]]:
    """Positions that the search may use, and positions that are held out; both in ascending order.

    Args:
        count: number of validation items, None when it is not known.
        share: of the items to hold out.
        seed: of the choice.

    Returns:
        None and nothing when nothing is held out.

    Raises:
        ValidationError: the share is wrong, or leaves one of the two parts empty.
    """
    if not isinstance(share, (int, float)) or not 0.0 <= share < 1.0:
        message = f"`holdout` must be in [0, 1), but got {share!r}"
        raise ValidationError(message)
    if share == 0.0:
        return None, []
    if count is None:
        message = "`holdout` needs a validation dataset whose length is known; pass a list, or leave it at 0"
        raise ValidationError(message)
    held = round(share * count)
    if not 0 < held < count:
        message = f"`holdout` must leave items on both sides, but {share} of {count} items is {held}"
        raise ValidationError(message)
    order = np.random.default_rng([seed, count]).permutation(count).tolist()
    return sorted(order[held:]), sorted(order[:held])
