"""Parts of a model that are to stay float, and what in the model they match."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from maxdrop.data.graph import Graph
from maxdrop.errors import ValidationError


@dataclass
class Subgraph:
    """All nodes on any path from `inputs` to `outputs`, both included; node names."""

    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


@dataclass
class IgnoredScope:
    """Ops that stay float.

    Attributes:
        names: exact node names.
        patterns: regular expressions, matched from the start of a name.
        types: node types of the framework, such as "MatMul".
        subgraphs: everything between given nodes.
        validate: whether a rule that matches nothing is an error.
    """

    names: list[str] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    subgraphs: list[Subgraph] = field(default_factory=list)
    validate: bool = True


def match_scope(graph: Graph, scope: IgnoredScope | None) -> dict[str, str]:
    """Node names that the scope matches, each with the rule that matched.

    A rule that matches a constant stands for the ops that read it.

    Raises:
        ValidationError: when a rule matches nothing and `scope.validate` is set; lists every such rule.
    """
    if scope is None:
        return {}
    found: dict[str, str] = {}
    unmatched: list[str] = []
    for rule, names in _rules(graph, scope):
        if not names:
            unmatched.append(rule)
        for name in names:
            for op in _effective(graph, name):
                found.setdefault(op, rule)
    if unmatched and scope.validate:
        message = (
            f"every rule of the ignored scope must match a node, but these match none: {'; '.join(unmatched)}. "
            "Correct them, or set validate=False"
        )
        raise ValidationError(message)
    return found


def _rules(graph: Graph, scope: IgnoredScope) -> Iterator[tuple[str, list[str]]]:
    for name in scope.names:
        yield f"name {name!r}", [name] if name in graph else []
    for pattern in scope.patterns:
        yield f"pattern {pattern!r}", [node.name for node in graph if _compile(pattern).match(node.name)]
    for kind in scope.types:
        yield f"type {kind!r}", [node.name for node in graph if node.native_type == kind]
    for subgraph in scope.subgraphs:
        rule = f"subgraph {subgraph.inputs} -> {subgraph.outputs}"
        yield rule, sorted(_between(graph, subgraph))


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        message = f"`patterns` must be regular expressions, but {pattern!r} is none: {error}"
        raise ValidationError(message) from error


def _effective(graph: Graph, name: str) -> list[str]:
    """`name` itself, or for constants the first readers that are not constant."""
    node = graph.node(name)
    if not all(graph.value(out).is_constant for out in node.outputs) or not node.outputs:
        return [name]
    return [op for reader in graph.readers(node) for op in _effective(graph, reader.name)]


def _between(graph: Graph, subgraph: Subgraph) -> set[str]:
    if any(name not in graph for name in (*subgraph.inputs, *subgraph.outputs)):
        return set()
    below = _reach(graph, subgraph.inputs, down=True)
    above = _reach(graph, subgraph.outputs, down=False)
    return below & above


def _reach(graph: Graph, names: list[str], down: bool) -> set[str]:
    seen: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        node = graph.node(name)
        if down:
            todo.extend(reader.name for reader in graph.readers(node))
        else:
            todo.extend(graph.producer(value).name for value in node.inputs)
    return seen
