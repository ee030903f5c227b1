"""Search strategies, one to a file. Each is a function `(space, criterion) -> steps`; see `search.space`."""

from __future__ import annotations

from maxdrop.search.space import Strategy
from maxdrop.search.strategies.bracket import bracket

STRATEGIES: dict[str, Strategy] = {"bracket": bracket}
