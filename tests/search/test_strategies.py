from __future__ import annotations

import pytest

from maxdrop.search.space import Strategy
from maxdrop.search.strategies import STRATEGIES
from maxdrop.testing.strategy_suite import StrategySuite


class TestStrategies(StrategySuite):
    @pytest.fixture(autouse=True, params=sorted(STRATEGIES))
    def choose(self, request: pytest.FixtureRequest) -> None:
        self.chosen = STRATEGIES[request.param]

    def strategy(self) -> Strategy:
        return self.chosen
