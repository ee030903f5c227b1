from __future__ import annotations

from dataclasses import replace

import pytest

from maxdrop.data.graph import Graph
from maxdrop.errors import ValidationError
from maxdrop.scopes import IgnoredScope, Subgraph, match_scope
from maxdrop.testing.toy_backend import ToyBackend
from tests.toys import toy_model


@pytest.fixture(scope="module")
def graph() -> Graph:
    return ToyBackend().graph(toy_model())


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (IgnoredScope(), set()),
        (IgnoredScope(names=["a", "e"]), {"a", "e"}),
        (IgnoredScope(patterns=["a"]), {"a", "a_bias", "a_relu"}),  # from the start of a name, not to its end
        (IgnoredScope(patterns=[".*relu"]), {"a_relu", "d_relu"}),
        (IgnoredScope(patterns=["^c$"]), {"c"}),
        (IgnoredScope(types=["MatMul"]), {"a", "b", "c", "d", "e"}),
        (IgnoredScope(types=["Relu"], names=["b"]), {"a_relu", "d_relu", "b"}),
        (IgnoredScope(subgraphs=[Subgraph(["b"], ["c"])]), {"b", "c"}),
        (IgnoredScope(subgraphs=[Subgraph(["x"], ["d"])]), {"x", "a", "a_bias", "a_relu", "b", "c", "both", "d"}),
        (IgnoredScope(subgraphs=[Subgraph(["a", "b"], ["both"])]), {"a", "a_bias", "a_relu", "b", "c", "both"}),
        (IgnoredScope(subgraphs=[Subgraph(["d"], ["d"])]), {"d"}),
    ],
)
def test_what_matches(graph: Graph, scope: IgnoredScope, expected: set[str]) -> None:
    assert set(match_scope(graph, scope)) == expected


def test_no_scope_matches_nothing(graph: Graph) -> None:
    assert match_scope(graph, None) == {}


def test_a_constant_stands_for_its_readers(graph: Graph) -> None:
    assert set(match_scope(graph, IgnoredScope(names=["wa", "ba"]))) == {"a", "a_bias"}


def test_the_rule_is_kept(graph: Graph) -> None:
    found = match_scope(graph, IgnoredScope(names=["a"], patterns=["b$"], types=["Concat"]))
    assert found == {"a": "name 'a'", "b": "pattern 'b$'", "both": "type 'Concat'"}


def test_every_rule_without_a_match_is_listed(graph: Graph) -> None:
    scope = IgnoredScope(
        names=["a", "nobody"],
        patterns=["nothing.*"],
        types=["Conv"],
        subgraphs=[Subgraph(["c"], ["b"]), Subgraph(["a"], ["nobody"])],
    )
    with pytest.raises(ValidationError) as caught:
        match_scope(graph, scope)
    for rule in ("'nobody'", "'nothing.*'", "'Conv'", "['c'] -> ['b']", "['a'] -> ['nobody']"):
        assert rule in str(caught.value)
    assert "name 'a'" not in str(caught.value)
    assert set(match_scope(graph, replace(scope, validate=False))) == {"a"}


def test_a_broken_pattern_is_refused(graph: Graph) -> None:
    with pytest.raises(ValidationError, match=r"'\('"):
        match_scope(graph, IgnoredScope(patterns=["("]))
