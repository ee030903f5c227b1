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

    @pytest.mark.xfail(reason="`bracket` comes back to prefixes it has seen fail; the trace answers them", strict=False)
    def test_no_candidate_is_proposed_twice(self) -> None:
        super().test_no_candidate_is_proposed_twice()
