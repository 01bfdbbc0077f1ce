"""Choices that passes make for a whole graph, as data, so that a search may make others.

In: nodes, and what was decided elsewhere. Out: names of places, and for each what to do there.
Invariant: a place is named by what is computed there and nothing else, so the same graph has the
same names in every process, and layers that are alike share a name; what is not decided goes the
pass's own way.

    value     an elementwise value that several kernels read, or that a dot reads: "stored", or
              computed "again" by each
    join      a kernel and the one that reads its result: "joined", or "apart"
    split     a sum of many terms with few results: "whole", or in "parts"
    layout    the order of axes in memory: as dots make them ("dots"), or as "written"
    launches  kernels of one form: "shared" launches, or "apart"
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tgrad.graph.node import Node
from tgrad.graph.op import MOVEMENT, Op, is_elementwise

VALUES: dict[str, tuple[str, str]] = {
    "value": ("stored", "again"),
    "join": ("joined", "apart"),
    "split": ("whole", "parts"),
    "layout": ("dots", "written"),
    "launches": ("shared", "apart"),
}
"""What may be done at the places of each kind."""
AS_PLANNED = "as planned"
"""Decided, and nothing else than what the passes do by themselves."""
LAYOUT, LAUNCHES = "layout of images", "launches of kernels alike"
"""The two places that each graph has once."""
_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Site:
    """A place where a pass may go two ways.

    Attributes:
        name: its kind, what is computed there, a digest of that.
        planned: what the pass does by itself.
        nbytes: of the values in question; orders places by what they may be worth.
    """

    name: str
    planned: str
    nbytes: int

    @property
    def other(self) -> str:
        """The other way."""
        a, b = VALUES[kind_of(self.name)]
        return b if self.planned == a else a


@dataclass(frozen=True)
class PlanChoices:
    """What is decided, by the name of the place.

    >>> PlanChoices().also("layout of images", "written").at("layout of images")
    'written'
    """

    decided: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.decided)

    def at(self, name: str) -> str | None:
        """What to do there; None for the pass's own way."""
        return next((value for site, value in self.decided if site == name), None)

    def also(self, name: str, value: str) -> PlanChoices:
        """With one place more."""
        kept = (d for d in self.decided if d[0] != name)
        return PlanChoices(tuple(sorted((*kept, (name, value)))))

    def at_node(self, kind: str, node: Node, names: Names) -> str | None:
        """What to do at a node; its name is made only if anything is decided."""
        return self.at(names.of(kind, node)) if self.decided else None


NO_CHOICES = PlanChoices()


def kind_of(name: str) -> str:
    """The first word."""
    return name.partition(" ")[0]


def fault_of(named: Mapping[str, object]) -> str:
    """What is wrong with stored choices, in words; "" if nothing is.

    >>> fault_of({"join a b 01234567": "loose"})
    "'join a b 01234567' cannot be 'loose'"
    """
    for name, value in named.items():
        if value not in (*VALUES.get(kind_of(name), ()), AS_PLANNED):
            return f"{name!r} cannot be {value!r}"
    return ""


def choices_of(named: Mapping[str, object]) -> PlanChoices:
    """Stored choices without those that are as planned."""
    other = ((n, str(v)) for n, v in named.items() if v != AS_PLANNED)
    return PlanChoices(tuple(sorted(other)))


@dataclass
class Names:
    """Names of places in one graph, each made when it is asked for."""

    _wholes: dict[Node, str] = field(default_factory=dict)

    def of(self, kind: str, *nodes: Node) -> str:
        """The name of a node's place, or of that between two."""
        digest = _digest(*(self._whole(n) for n in nodes))[:_DIGITS]
        return " ".join((kind, *map(title_of, nodes), digest))

    def _whole(self, node: Node) -> str:
        """What a node computes, from what heavier nodes store."""
        stack = [node]
        while stack:
            n = stack[-1]
            missing = [x for x in n.inputs if _is_light(x) and x not in self._wholes]
            if n in self._wholes or not missing:
                stack.pop()
                self._wholes[n] = self._wholes.get(n) or self._described(n)
            else:
                stack += missing
        return self._wholes[node]

    def _described(self, node: Node) -> str:
        inputs = (self._wholes[x] if _is_light(x) else _outline(x) for x in node.inputs)
        attrs = "" if node.op is Op.BUFFER else repr(node.attrs)
        return _digest(_outline(node), attrs, *inputs)


def _is_light(node: Node) -> bool:
    return is_elementwise(node.op) or node.op in MOVEMENT or node.op is Op.CONST


def _outline(node: Node) -> str:
    return f"{node.op.value} {node.shape} {node.dtype.name}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def title_of(node: Node) -> str:
    """What the user called, the shape and the type.

    >>> from tgrad.dtype import float32
    >>> from tgrad.graph.node import make
    >>> title_of(make(Op.IOTA, shape=(4, 2), axis=0, dtype=float32)).partition("_")[2]
    '4x2_f32'
    """
    shape = "x".join(map(str, node.shape)) or "scalar"
    return f"{node.source.label or node.op.value}_{shape}_{node.dtype.short}".replace(" ", "_")


def distinct(sites: Sequence[Site]) -> list[Site]:
    """One site for each name, the one of the most bytes first; bytes of equal names add up."""
    total: dict[str, int] = {}
    for s in sites:
        total[s.name] = total.get(s.name, 0) + s.nbytes
    first = {s.name: s for s in reversed(sites)}
    found = [Site(name, first[name].planned, nbytes) for name, nbytes in total.items()]
    return sorted(found, key=lambda s: (-s.nbytes, s.name))
