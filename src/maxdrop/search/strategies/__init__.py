"""Search strategies, one to a file. Each is a function `(space, criterion) -> steps`; see `search.space`."""

from __future__ import annotations

from maxdrop.errors import ValidationError
from maxdrop.search.space import Strategy
from maxdrop.search.strategies.bracket import bracket
from maxdrop.search.strategies.greedy import greedy

STRATEGIES: dict[str, Strategy] = {"bracket": bracket}
"""Those that find a good candidate in few validations."""

COMPARISONS: dict[str, Strategy] = {"greedy": greedy}
"""Those that are there to compare with."""


def get_strategy(name: str) -> Strategy:
    """The strategy of that name.

    Raises:
        ValidationError: there is none.
    """
    known = STRATEGIES | COMPARISONS
    if name not in known:
        message = f"`strategy` must be one of {sorted(known)}, but got {name!r}"
        raise ValidationError(message)
    return known[name]
