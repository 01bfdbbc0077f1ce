"""`torch.utils._pytree`'s names: nests of containers as lists of leaves, and back.

In: a nest of lists, tuples, namedtuples, dicts, deques and types that are registered. Out: leaves
in order, a TreeSpec that says how they are nested, and nests of other leaves. Invariant: what is no
container of an exact type that is known is a leaf, None too, as in PyTorch.
Source: https://github.com/pytorch/pytorch/blob/main/torch/utils/_pytree.py, whose names these are
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from types import UnionType
from typing import Any, NoReturn

from tgrad.errors import ShapeError, UnsupportedError

IsLeaf = Callable[[Any], bool] | None
Types = type | tuple[type, ...] | UnionType


# -- keys: how a child is reached ------------------------------------------------------------------


@dataclass(frozen=True)
class MappingKey:
    """An item of a dict."""

    key: Any

    def __str__(self) -> str:
        return f"[{self.key!r}]"

    def get(self, tree: Any) -> Any:
        """The item."""
        return tree[self.key]


@dataclass(frozen=True)
class SequenceKey:
    """An item of a list or tuple."""

    idx: int

    def __str__(self) -> str:
        return f"[{self.idx!r}]"

    def get(self, tree: Any) -> Any:
        """The item."""
        return tree[self.idx]


@dataclass(frozen=True)
class GetAttrKey:
    """An attribute, as of a namedtuple."""

    name: str

    def __str__(self) -> str:
        return f".{self.name}"

    def get(self, tree: Any) -> Any:
        """The attribute."""
        return getattr(tree, self.name)


Key = MappingKey | SequenceKey | GetAttrKey
Path = tuple[Any, ...]


def keystr(kp: Path) -> str:
    """A path as Python writes it.

    >>> keystr((MappingKey("a"), SequenceKey(0), GetAttrKey("x")))
    "['a'][0].x"
    """
    return "".join(map(str, kp))


def key_get(obj: Any, kp: Path) -> Any:
    """What a path leads to."""
    for key in kp:
        obj = key.get(obj)
    return obj


# -- kinds of containers ---------------------------------------------------------------------------


@dataclass(frozen=True)
class NodeDef:
    """What a type of containers is made of.

    Attributes:
        flatten: (children, context) of a container; the context is all but the children.
        unflatten: a container from children and context.
        keys: how each child is reached; None where nobody said it.
    """

    flatten: Callable[[Any], tuple[Iterable[Any], Any]]
    unflatten: Callable[[Iterable[Any], Any], Any]
    keys: Callable[[Any], list[Any]] | None = None


def _places(tree: Any) -> list[Any]:
    return [SequenceKey(i) for i in range(len(tree))]


def _names(tree: Any) -> list[Any]:
    return [MappingKey(key) for key in tree]


def _items(tree: Any) -> tuple[list[Any], Any]:
    return list(tree.values()), list(tree)


SUPPORTED_NODES: dict[type, NodeDef] = {
    list: NodeDef(lambda t: (t, None), lambda c, _: list(c), _places),
    tuple: NodeDef(lambda t: (t, None), lambda c, _: tuple(c), _places),
    dict: NodeDef(_items, lambda c, keys: dict(zip(keys, c)), _names),
    OrderedDict: NodeDef(_items, lambda c, keys: OrderedDict(zip(keys, c)), _names),
    defaultdict: NodeDef(
        lambda t: (list(t.values()), [t.default_factory, list(t)]),
        lambda c, context: defaultdict(context[0], zip(context[1], c)),
        _names,
    ),
    deque: NodeDef(lambda t: (t, t.maxlen), lambda c, most: deque(c, maxlen=most), _places),
}
"""By exact type. Namedtuples are known by their fields."""

_DICTS = (dict, OrderedDict, defaultdict)
_NAMED = NodeDef(
    lambda t: (t, type(t)),
    lambda c, kind: kind(*c),
    lambda t: [GetAttrKey(name) for name in t._fields],
)


def _kind_of(tree: Any) -> NodeDef | None:
    found = SUPPORTED_NODES.get(type(tree))
    if found is None and isinstance(tree, tuple) and hasattr(type(tree), "_fields"):
        return _NAMED
    return found


def register_pytree_node(
    cls: type,
    flatten_fn: Callable[[Any], tuple[Iterable[Any], Any]],
    unflatten_fn: Callable[[Iterable[Any], Any], Any],
    *,
    serialized_type_name: str | None = None,
    to_dumpable_context: Callable[[Any], Any] | None = None,
    from_dumpable_context: Callable[[Any], Any] | None = None,
    flatten_with_keys_fn: Callable[[Any], tuple[list[tuple[Any, Any]], Any]] | None = None,
) -> None:
    """Let instances of a type be containers, here and in `tgrad.func`.

    Args:
        flatten_fn: (children, context) of an instance.
        unflatten_fn: an instance from children and context.
        serialized_type_name, to_dumpable_context, from_dumpable_context: accepted; structures are
            not written to files.
        flatten_with_keys_fn: ([(key, child), ...], context), for paths.

    Raises:
        ValueError: the type is known already.

    >>> class Pair:
    ...     def __init__(self, a, b):
    ...         self.a, self.b = a, b
    >>> register_pytree_node(Pair, lambda p: ([p.a, p.b], None), lambda c, _: Pair(*c))
    >>> tree_map(lambda n: n * 2, [Pair(1, 2)])[0].b
    4
    """
    if cls in SUPPORTED_NODES:
        raise ValueError(f"{cls} is registered already.")
    keys = None
    if flatten_with_keys_fn is not None:
        keys = partial(_keys_by, flatten_with_keys_fn)
    SUPPORTED_NODES[cls] = NodeDef(flatten_fn, unflatten_fn, keys)


def _keys_by(flatten_with_keys: Callable[[Any], Any], tree: Any) -> list[Any]:
    return [key for key, _ in flatten_with_keys(tree)[0]]


def register_dataclass(
    cls: type,
    *,
    field_names: list[str] | None = None,
    drop_field_names: list[str] | None = None,
    serialized_type_name: str | None = None,
) -> None:
    """Let instances of a dataclass be containers.

    Args:
        field_names: of the children; by default all fields that `__init__` takes.
        drop_field_names: fields that are left out, and get their defaults again.
        serialized_type_name: accepted; structures are not written to files.

    >>> @dataclass
    ... class Point:
    ...     x: int
    ...     y: int
    >>> register_dataclass(Point)
    >>> tree_map(lambda n: -n, Point(1, 2))
    Point(x=-1, y=-2)
    """
    chosen = [f.name for f in fields(cls) if f.init] if field_names is None else field_names
    names = [name for name in chosen if name not in (drop_field_names or ())]

    def flatten_with_keys(tree: Any) -> tuple[list[tuple[Any, Any]], Any]:
        return [(GetAttrKey(name), getattr(tree, name)) for name in names], None

    register_pytree_node(
        cls,
        lambda tree: ([getattr(tree, name) for name in names], None),
        lambda children, _: cls(**dict(zip(names, children))),
        flatten_with_keys_fn=flatten_with_keys,
    )


# -- structures ------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class TreeSpec:
    """How leaves are nested.

    Attributes:
        type: of the container; None of a leaf.
        context: what the container is besides its children.
        of_children: their structures.
        num_leaves: in all of it.
    """

    type: Any
    context: Any
    of_children: tuple[TreeSpec, ...]
    kind: NodeDef | None = field(default=None, compare=False)
    num_leaves: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        count = 1 if self.kind is None else sum(c.num_leaves for c in self.of_children)
        object.__setattr__(self, "num_leaves", count)

    @property
    def num_children(self) -> int:
        """How many containers and leaves are directly inside."""
        return len(self.of_children)

    @property
    def num_nodes(self) -> int:
        """How many containers and leaves there are in all."""
        return 1 + sum(c.num_nodes for c in self.of_children)

    def children(self) -> list[TreeSpec]:
        """The structures directly inside."""
        return list(self.of_children)

    def child(self, index: int) -> TreeSpec:
        """One of them."""
        return self.of_children[index]

    def is_leaf(self) -> bool:
        """Whether it is no container."""
        return self.kind is None

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        """The nest of these leaves; see `tree_unflatten`."""
        given = list(leaves)
        if len(given) != self.num_leaves:
            raise ShapeError(
                f"{len(given)} leaves for a nest of {self.num_leaves}: {self}.", "Give as many."
            )
        return self._built(iter(given))

    def _built(self, leaves: Iterator[Any]) -> Any:
        if self.kind is None:
            return next(leaves)
        return self.kind.unflatten([c._built(leaves) for c in self.of_children], self.context)

    def flatten_up_to(self, tree: Any) -> list[Any]:
        """What stands in another nest where this one has its leaves.

        Raises:
            ShapeError: it is nested in another way; dicts may differ in the order of their keys.
        """
        if self.kind is None:
            return [tree]
        kind = _kind_of(tree)
        are_dicts = self.type in _DICTS and type(tree) in _DICTS
        if kind is None or (type(tree) is not self.type and not are_dicts):
            self._refuse(tree)
        children, context = kind.flatten(tree)
        if are_dicts:
            keys = self.context[1] if self.type is defaultdict else self.context
            if set(keys) != set(tree):
                self._refuse(tree)
            children = [tree[key] for key in keys]
        elif context != self.context and self.type is not deque:
            self._refuse(tree)
        parts = list(children)
        if len(parts) != self.num_children:
            self._refuse(tree)
        return [leaf for c, part in zip(self.of_children, parts) for leaf in c.flatten_up_to(part)]

    def _refuse(self, tree: Any) -> NoReturn:
        raise ShapeError(f"{tree!r} is not nested as {self}.", "Give nests of one structure.")

    def __hash__(self) -> int:
        return hash((self.type, self.of_children))

    def __repr__(self) -> str:
        if self.kind is None:
            return "*"
        return f"TreeSpec({self.type.__name__}, {self.context}, {list(self.of_children)})"


_LEAF = TreeSpec(None, None, ())


def LeafSpec() -> TreeSpec:
    """The structure of a leaf."""
    return _LEAF


def tree_is_leaf(tree: Any, is_leaf: IsLeaf = None) -> bool:
    """Whether it is no container, or `is_leaf` says so."""
    return (is_leaf is not None and is_leaf(tree)) or _kind_of(tree) is None


def tree_flatten_with_path(
    tree: Any, is_leaf: IsLeaf = None
) -> tuple[list[tuple[Path, Any]], TreeSpec]:
    """([(path, leaf), ...], structure) of a nest.

    Raises:
        UnsupportedError: it has a container that was registered without `flatten_with_keys_fn`.
    """
    leaves: list[tuple[Path, Any]] = []
    return leaves, _walk(tree, is_leaf, (), leaves.append, with_keys=True)


def tree_flatten(tree: Any, is_leaf: IsLeaf = None) -> tuple[list[Any], TreeSpec]:
    """(leaves, structure) of a nest.

    Args:
        is_leaf: containers that it is true of are leaves.

    >>> tree_flatten({"a": [1, 2], "b": (None,)})
    ([1, 2, None], TreeSpec(dict, ['a', 'b'], [TreeSpec(list, None, [*, *]), \
TreeSpec(tuple, None, [*])]))
    """
    leaves: list[Any] = []
    spec = _walk(tree, is_leaf, (), lambda pair: leaves.append(pair[1]), with_keys=False)
    return leaves, spec


def _walk(
    tree: Any,
    is_leaf: IsLeaf,
    path: Path,
    keep: Callable[[tuple[Path, Any]], None],
    with_keys: bool,
) -> TreeSpec:
    """The structure of a nest, whose leaves are kept with their paths."""
    kind = None if is_leaf is not None and is_leaf(tree) else _kind_of(tree)
    if kind is None:
        keep((path, tree))
        return _LEAF
    children, context = kind.flatten(tree)
    parts = list(children)
    keys: list[Any] = [None] * len(parts)
    if with_keys:
        if kind.keys is None:
            raise UnsupportedError(
                f"paths of a {type(tree).__name__}.", "Register it with flatten_with_keys_fn."
            )
        keys = kind.keys(tree)
    inner = tuple(
        _walk(part, is_leaf, (*path, key), keep, with_keys) for key, part in zip(keys, parts)
    )
    return TreeSpec(type(tree), context, inner, kind)


def tree_unflatten(leaves: Iterable[Any], treespec: TreeSpec) -> Any:
    """The nest of that structure with these leaves.

    Raises:
        ShapeError: there are more or fewer.

    >>> tree_unflatten([3, 4], tree_structure({"a": 1, "b": [2]}))
    {'a': 3, 'b': [4]}
    """
    return treespec.unflatten(leaves)


def tree_structure(tree: Any, is_leaf: IsLeaf = None) -> TreeSpec:
    """How a nest is nested."""
    return tree_flatten(tree, is_leaf)[1]


def tree_leaves(tree: Any, is_leaf: IsLeaf = None) -> list[Any]:
    """The leaves of a nest, in order."""
    return tree_flatten(tree, is_leaf)[0]


def tree_iter(tree: Any, is_leaf: IsLeaf = None) -> Iterator[Any]:
    """The leaves of a nest, in order."""
    return iter(tree_leaves(tree, is_leaf))


def tree_leaves_with_path(tree: Any, is_leaf: IsLeaf = None) -> list[tuple[Path, Any]]:
    """(path, leaf) of each leaf of a nest."""
    return tree_flatten_with_path(tree, is_leaf)[0]


# -- maps ------------------------------------------------------------------------------------------


def tree_map(func: Callable[..., Any], tree: Any, *rests: Any, is_leaf: IsLeaf = None) -> Any:
    """The same nest with other leaves: those that `func` makes of the leaves of `tree` and of what
    stands in their places in the others.

    Raises:
        ShapeError: another one is nested in another way.

    >>> tree_map(lambda a, b: a + b, {"x": (1, 2)}, {"x": (10, 20)})
    {'x': (11, 22)}
    """
    leaves, spec = tree_flatten(tree, is_leaf)
    others = [spec.flatten_up_to(rest) for rest in rests]
    return spec.unflatten(map(func, leaves, *others))


def tree_map_(func: Callable[..., Any], tree: Any, *rests: Any, is_leaf: IsLeaf = None) -> Any:
    """Call `func` as `tree_map` does, for what it does to the leaves; the nest itself."""
    tree_map(func, tree, *rests, is_leaf=is_leaf)
    return tree


def tree_map_with_path(
    func: Callable[..., Any], tree: Any, *rests: Any, is_leaf: IsLeaf = None
) -> Any:
    """`tree_map` of a function that gets the path of each leaf first."""
    pairs, spec = tree_flatten_with_path(tree, is_leaf)
    others = [spec.flatten_up_to(rest) for rest in rests]
    return spec.unflatten(func(*pair, *more) for pair, *more in zip(pairs, *others))


def _chooses(types: Types | Callable[[Any], bool]) -> Callable[[Any], bool]:
    if isinstance(types, (type, tuple, UnionType)):
        return lambda leaf: isinstance(leaf, types)
    return types


def tree_map_only(
    type_or_types_or_pred: Types | Callable[[Any], bool],
    /,
    func: Callable[[Any], Any],
    tree: Any,
    is_leaf: IsLeaf = None,
) -> Any:
    """The same nest with other leaves where they are of a type, or a function says so.

    >>> tree_map_only(int, lambda n: n + 1, [1, "a", (2.5, 3)])
    [2, 'a', (2.5, 4)]
    """
    chosen = _chooses(type_or_types_or_pred)
    return tree_map(lambda leaf: func(leaf) if chosen(leaf) else leaf, tree, is_leaf=is_leaf)


def tree_map_only_(
    type_or_types_or_pred: Types | Callable[[Any], bool],
    /,
    func: Callable[[Any], Any],
    tree: Any,
    is_leaf: IsLeaf = None,
) -> Any:
    """Call `func` as `tree_map_only` does; the nest itself."""
    tree_map_only(type_or_types_or_pred, func, tree, is_leaf)
    return tree


def tree_all(pred: Callable[[Any], bool], tree: Any, is_leaf: IsLeaf = None) -> bool:
    """Whether it is true of all leaves."""
    return all(map(pred, tree_leaves(tree, is_leaf)))


def tree_any(pred: Callable[[Any], bool], tree: Any, is_leaf: IsLeaf = None) -> bool:
    """Whether it is true of a leaf."""
    return any(map(pred, tree_leaves(tree, is_leaf)))


def tree_all_only(
    type_or_types: Types, /, pred: Callable[[Any], bool], tree: Any, is_leaf: IsLeaf = None
) -> bool:
    """Whether it is true of all leaves of a type."""
    chosen = _chooses(type_or_types)
    return all(pred(leaf) for leaf in tree_leaves(tree, is_leaf) if chosen(leaf))


def tree_any_only(
    type_or_types: Types, /, pred: Callable[[Any], bool], tree: Any, is_leaf: IsLeaf = None
) -> bool:
    """Whether it is true of a leaf of a type."""
    chosen = _chooses(type_or_types)
    return any(pred(leaf) for leaf in tree_leaves(tree, is_leaf) if chosen(leaf))
