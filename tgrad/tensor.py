"""Tensor: Python calls in, graph nodes out.

In: PyTorch's calls. Out: lazy graph, and values when they are asked for. Invariant: a call computes
nothing; reading a value (`item`, `numpy`, printing) or an optimizer's step runs everything that is
pending as one plan. In-place methods rebind the tensor to new graph, they never change a Node.

How gradients find their way. A tensor that requires a gradient carries a mark in the graph: a
`custom_vjp` node, an identity that fusion never sees.
    leaf       mark "leaf" with a token of its own, so equal parameters stay apart
    realised   mark "realised" over its buffer, passing the gradient on to the history
    detached   mark "detach", which passes nothing on
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from operator import attrgetter
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from tgrad import aliases, autocasting
from tgrad import dtype as dt
from tgrad.aliases import DETACH, KEEPS_ORDER, Memory, Path, Step, When, join
from tgrad.anomalies import looking_for_nan
from tgrad.arguments import give_numpy_names
from tgrad.autodiff.backward import gradients, register_vjp
from tgrad.batching import UNRECORDED, check_written, is_inside_transform
from tgrad.device import Device, as_device, get_default_device
from tgrad.dtype import DType, as_dtype
from tgrad.errors import DeviceError, DTypeError, GradientError, ShapeError
from tgrad.grad_mode import is_grad_enabled
from tgrad.graph import repeats
from tgrad.graph.interpret import constant_value
from tgrad.graph.node import Node, buffer_node, constant_node, make, node_of
from tgrad.graph.op import Op
from tgrad.graph.size import running_scope
from tgrad.graph.sized import are_same, shape_of, sized
from tgrad.labelling import labelled as labelled
from tgrad.methods.activation import ActivationMethods
from tgrad.methods.algebra import AlgebraMethods
from tgrad.methods.arithmetic import ArithmeticMethods
from tgrad.methods.arrangement import ArrangementMethods
from tgrad.methods.contraction import ContractionMethods
from tgrad.methods.conversion import ConversionMethods
from tgrad.methods.counting import CountingMethods
from tgrad.methods.derived import DerivedMethods
from tgrad.methods.elementwise import ElementwiseMethods, is_complex
from tgrad.methods.facts import FactMethods
from tgrad.methods.gradient import GradientMethods
from tgrad.methods.indexing import IndexingMethods
from tgrad.methods.inplace import InPlaceMethods
from tgrad.methods.interchange import InterchangeMethods, host_array, taken_from_gpu
from tgrad.methods.memory import MemoryMethods
from tgrad.methods.movement import MovementMethods
from tgrad.methods.new import NewMethods
from tgrad.methods.reduction import ReductionMethods
from tgrad.methods.scanning import ScanningMethods
from tgrad.methods.scattering import ScatteringMethods
from tgrad.methods.sizes import as_size, is_padded
from tgrad.methods.slopes import define_vjp as define_vjp
from tgrad.methods.sorting import SortingMethods
from tgrad.methods.special import SpecialMethods
from tgrad.methods.trigonometry import TrigonometricMethods
from tgrad.pending import drop_pending as drop_pending
from tgrad.pending import mark_pending, mark_repeated, realize_tensors
from tgrad.pending import pending_tensors as pending_tensors
from tgrad.pending import realize_pending as realize_pending
from tgrad.printing import text_of_tensor
from tgrad.repeating import modes
from tgrad.runtime.storage import Storage, upload
from tgrad.shapes import Size, size_of
from tgrad.tracing import note_constant, tracer, versions
from tgrad.unread import loops, note_gradients, note_leaf, note_result, settle

Number = bool | int | float

_node_of, _has_gradient = attrgetter("_node"), attrgetter("_requires_grad")
_memory_of, _new = attrgetter("_memory"), object.__new__
_tokens = itertools.count()
_leaves: WeakValueDictionary[int, Tensor] = WeakValueDictionary()


# -- marks of the graph --------------------------------------------------------------------------


@register_vjp("leaf")
def _leaf_rule(
    g: Node, result: Node, arguments: tuple[Node, ...], params: tuple[Any, ...]
) -> Sequence[Node | None]:
    """A leaf has no history."""
    return ()


@register_vjp("realised")
def _realised_rule(
    g: Node, result: Node, arguments: tuple[Node, ...], params: tuple[Any, ...]
) -> Sequence[Node | None]:
    """The gradient of a stored value is that of its history."""
    return (g,)


def with_vjp(name: str, result: Tensor, *arguments: Tensor, params: tuple[Any, ...] = ()) -> Tensor:
    """`result`, differentiated with respect to `arguments` by the rule `name`."""
    node = make(Op.CUSTOM_VJP, *(t._node for t in (result, *arguments)), rule=name, params=params)
    made = Tensor._result(node, result.device, (result, *arguments))
    return made if name in aliases.IN_ROWS else aliases.keep_order(made, result)


# -- the tensor ---------------------------------------------------------------------------------


class Tensor(
    ElementwiseMethods,
    ActivationMethods,
    ReductionMethods,
    MovementMethods,
    ContractionMethods,
    AlgebraMethods,
    IndexingMethods,
    ScatteringMethods,
    ScanningMethods,
    SortingMethods,
    CountingMethods,
    ArithmeticMethods,
    TrigonometricMethods,
    SpecialMethods,
    ArrangementMethods,
    DerivedMethods,
    ConversionMethods,
    FactMethods,
    GradientMethods,
    InterchangeMethods,
    MemoryMethods,
    NewMethods,
    InPlaceMethods,
):
    """An array that is computed when its values are needed.

    Args:
        data: nested sequences, a NumPy array or a tensor; or sizes, whose values are any. As in
            PyTorch this is the constructor of float32: `tgrad.tensor` keeps the data's dtype.
        dtype: element type; by default float32, or a tensor's own.
        device: where it lives; by default TGRAD_DEVICE, else "cpu".
        requires_grad: whether `backward` fills `grad`.

    >>> import tgrad
    >>> (tgrad.Tensor([1.0, 2.0]) + 1).numpy()
    array([2., 3.], dtype=float32)
    """

    __slots__ = (
        "_node", "_storage", "_device", "_requires_grad", "_token", "_memory", "_path", "_grad",
        "_borrowed", "__weakref__",
    )  # fmt: skip
    _node: Node
    _storage: Storage | None
    _device: Device
    _requires_grad: bool
    _token: int | None
    _memory: Memory | None
    _path: Path
    _grad: Tensor | None
    _borrowed: tuple[Node, Storage] | None
    __array_priority__ = 1000

    def __init__(
        self,
        *data: Any,
        dtype: DType | None = None,
        device: str | Device | None = None,
        requires_grad: bool = False,
    ):
        are_sizes = len(data) != 1 or isinstance(data[0], int)
        given = np.zeros([as_size(n) for n in data] or 0) if are_sizes else data[0]
        if dtype is None and not isinstance(given, Tensor):
            dtype = dt.get_default_dtype()
        made = tensor(given, dtype=dtype, device=device)
        self._set(made._node, made._device, made._storage)
        if requires_grad:
            self.requires_grad_()

    def _set(self, node: Node | None, device: Device, storage: Storage | None = None) -> None:
        """None for the storage's node, made when somebody looks: mostly never, after replays."""
        if node is not None:
            self._node = node
        self._device, self._storage = device, storage
        self._requires_grad, self._token = False, None
        self._memory = self._grad = self._borrowed = None
        self._path = ()

    def _borrow(self) -> tuple[Node, Storage]:
        """Node and storage of a stored tensor, which a compiled step takes away until somebody
        looks at them: as long as `versions.lent` stands, nobody did."""
        if self._borrowed is None:
            assert self._storage is not None
            self._borrowed = self._node, self._storage
            del self._node, self._storage
        return self._borrowed

    def _take_back(self) -> None:
        if self._borrowed is not None:
            versions.lent += 1
            self._node, self._storage = self._borrowed
            self._borrowed = None

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there: it comes back, or is made, for whoever looks."""
        if name in ("_node", "_storage"):
            if self._borrowed is not None:
                self._take_back()
            elif name == "_node":
                self._node = buffer_node(self._storage)
        return object.__getattribute__(self, name)

    @staticmethod
    def _of(node: Node | None, device: Device, storage: Storage | None = None) -> Tensor:
        t: Tensor = _new(Tensor)
        t._set(node, device, storage)
        if repeats.lines and storage is None and node is not None:
            if repeats.line_of(node) in repeats.lines:
                mark_repeated(t)
        return t

    @staticmethod
    def _result(node: Node, device: Device, operands: Sequence[Tensor]) -> Tensor:
        """A computed tensor: requires a gradient if an operand does."""
        wanted = node.dtype.is_float and any(map(_has_gradient, operands))
        if wanted and not is_grad_enabled():
            node, wanted = _detached(node, UNRECORDED if is_inside_transform() else ()), False
        t = Tensor._of(node, device)
        t._requires_grad = wanted
        if wanted:
            loops.deep += 1
            aliases.tell_from_equals(t)
        else:
            note_result(t)
        return t

    def _apply(self, op: Op, *others: Tensor, **attrs: Any) -> Tensor:
        """The op on this tensor and others, dtypes and shapes already fitting."""
        for t in others:
            if t._device is not self._device and t._device != self._device:
                raise DeviceError(
                    f"{op} of tensors on different devices: {self._device} and {t._device}.",
                    "Move one of them with .to(device).",
                )
        operands = (self, *others)
        if loops.is_due:
            settle(operands)
        nodes = tuple(map(_node_of, operands))
        if "shape" in attrs and running_scope() is not None:
            node = sized(op, *nodes, **attrs)
        else:
            node = node_of(op, nodes, attrs, 2)
        result = Tensor._result(node, self._device, operands)
        if op in KEEPS_ORDER and any(map(_memory_of, operands)):
            return aliases.keep_order(result, *operands)
        return result

    def _view(self, op: Op, when: When = When.ALWAYS, **attrs: Any) -> Tensor:
        """A movement of this tensor, which PyTorch calls a view of it."""
        view = self._apply(op, **attrs)
        scope = running_scope() if is_padded(view._node) else None
        return self._share(view, Step(op, tuple(sorted(attrs.items())), when, scope=scope))

    def _share(self, view: Tensor, step: Step) -> Tensor:
        """The view, which a step made of this tensor, in its memory."""
        is_apart = self._requires_grad and not view._requires_grad
        return join(self, view, step, DETACH) if is_apart else join(self, view, step)

    def _become(self, view: Tensor) -> Tensor:
        """Be what a view of this tensor is.

        Raises:
            GradientError: it is a leaf that requires a gradient.
        """
        if view is not self:
            if self._token is not None:
                raise GradientError("a leaf that requires a gradient is moved in place.")
            trace = tracer()
            if trace is not None:
                trace.note(self)
            self._node, self._storage, self._path = view._node, view._storage, view._path
        return self

    def _constant(self, value: Number, dtype: DType, shape: tuple[int, ...] = ()) -> Tensor:
        """A number on this tensor's device, expanded to a shape."""
        node = constant_node(_python_number(value, dtype), dtype)
        if shape:
            build = make if running_scope() is None else sized
            node = build(Op.EXPAND, node, shape=shape)
        return Tensor._of(node, self._device)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """What torch's functions do with a tensor of tgrad: what tgrad's of that name do."""
        from tgrad.interop.torch_function import call

        return call(func, args, kwargs or {})

    # -- what it is -----------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        node = self._node
        return size_of(node.shape if running_scope() is None else shape_of(node))

    @property
    def _shape(self) -> tuple[int, ...]:
        """The shape as a plain tuple, for what each operation does with it."""
        return self._node.shape if running_scope() is None else shape_of(self._node)

    @property
    def dtype(self) -> DType:
        return self._node.dtype

    @property
    def device(self) -> Device:
        return self._device

    @property
    def ndim(self) -> int:
        return len(self._node.shape)

    def dim(self) -> int:
        """Number of axes."""
        return len(self._node.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one axis."""
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> int:
        """Number of elements."""
        return self._node.size if running_scope() is None else math.prod(self.shape)

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return text_of_tensor(self)

    # -- values ---------------------------------------------------------------------------------

    def realize(self) -> Tensor:
        """Compute the values now, with everything else that is pending on this device."""
        if self._storage is None:
            realize_tensors([self])
        return self

    def _store(self, storage: Storage) -> None:
        node = buffer_node(storage)
        if self._token is not None:
            node = make(Op.CUSTOM_VJP, node, rule="leaf", params=(self._token,))
        elif self._requires_grad:
            node = make(Op.CUSTOM_VJP, node, self._node, rule="realised", params=())
        self._take_back()
        self._node, self._storage = node, storage
        aliases.stored(self)

    def numpy(self) -> np.ndarray:
        """A copy of the values on the host. A trace knows those that depend on nothing.

        Returns:
            An array of the same shape and dtype (bfloat16 as ml_dtypes.bfloat16).
        """
        trace = tracer()
        if trace is not None:
            known = constant_value(self._node, trace.constants) if running_scope() is None else None
            if known is not None:
                return known
            trace.refuse("the value of a tensor is read")
        self.realize()
        assert self._storage is not None
        return self._storage.numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("an array of a tensor is a copy of its values; copy=False cannot be.")
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def item(self) -> Number:
        """The only element, as a Python number.

        Raises:
            ShapeError: there is not exactly one element.
        """
        if self.numel() != 1:
            raise ShapeError(
                f"item() of a tensor with {self.numel()} elements, shape {self.shape}.",
                "Reduce it first, or use .numpy().",
            )
        number = self.numpy().reshape(-1)[0]
        return float(number) if self.dtype.is_float else number.item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return self.numpy().tolist()

    def __bool__(self) -> bool:
        return bool(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __index__(self) -> int:
        if not self.dtype.is_int:
            raise DTypeError(f"a tensor of {self.dtype.name} is not an index.", "Use .long().")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        is_number = type(self) is Tensor and not self.shape
        return format(self.item(), spec) if is_number or (self.numel() == 1 and spec) else str(self)

    # -- gradients ------------------------------------------------------------------------------

    @property
    def grad(self) -> Tensor | None:
        trace = tracer()
        return self._grad if trace is None else trace.gradient(self)

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        trace = tracer()
        if trace is not None:
            trace.set_gradient(self, value)
        else:
            versions.gradients += 1
            self._grad = value

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Make it a leaf that `backward` fills `grad` of, or not.

        Raises:
            GradientError: its dtype has no gradients, or it was computed from others.
        """
        if requires_grad and not self.dtype.is_float:
            raise GradientError(
                f"a tensor of {self.dtype.name} cannot require a gradient.",
                "Only floating-point tensors can; convert it with .float().",
            )
        if requires_grad == self._requires_grad:
            return self
        if self._requires_grad and self._token is None:
            raise GradientError(
                "requires_grad of a computed tensor cannot be switched off.", "Use .detach()."
            )
        versions.guards += 1
        trace = tracer()
        if trace is not None:
            trace.note(self)
        self._requires_grad = requires_grad
        value = self._node.inputs[0] if self._token is not None else self._node
        self._token = next(_tokens) if requires_grad else None
        self._rebind(value, self._storage)
        return self

    def _rebind(self, value: Node, storage: Storage | None) -> None:
        """Give a leaf a new value."""
        node = value
        if self._token is not None:
            _leaves[self._token] = self
            if storage is None:
                note_leaf()
            node = make(Op.CUSTOM_VJP, value, rule="leaf", params=(self._token,))
        self._take_back()
        self._node, self._storage = node, storage
        aliases.stored(self)

    def detach(self) -> Tensor:
        """The same values with no history, in the same memory: either sees what is written to the
        other."""
        return join(self, self._without_history(), DETACH)

    def _without_history(self) -> Tensor:
        """The values of this moment with no history, whatever becomes of this tensor."""
        value = self._node
        if self._storage is not None:
            value = buffer_node(self._storage)
        elif self._requires_grad:
            value = _detached(value)
        storage = self._storage if tracer() is None else None  # made by the trace, and not old
        return Tensor._of(value, self._device, storage)

    @property
    def data(self) -> Tensor:
        """`detach()`; assigning to it gives a leaf new values, of any shape and dtype."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not self.is_leaf:
            raise GradientError("data of a computed tensor is assigned.", "Use .detach() first.")
        versions.guards += 1
        trace = tracer()
        if trace is not None:
            trace.note(self)
        self._device = value._device
        aliases.leave(self)
        self._rebind(value._without_history()._node, value._storage)
        join(value, self, DETACH)
        mark_pending(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """A leaf of its own with the same values: copy.deepcopy of a module copies its parameters.
        Tensors of one memory that are copied together share a copy of it, parameters do not.

        Raises:
            GradientError: it was computed from tensors that require gradients.
        """
        if not self.is_leaf:
            raise GradientError("deepcopy of a computed tensor.", "Use .detach() first.")
        twin = type(self).__new__(type(self))
        if type(self) is Tensor:
            aliases.copy_to(twin, self, memo)
        else:
            value = self._without_history()
            twin._set(value._node, self._device, value._storage)
        twin.requires_grad_(self._requires_grad)
        twin.grad = None if self.grad is None else self.grad.__deepcopy__(memo)
        mark_pending(twin)
        memo[id(self)] = twin
        return twin

    # -- in place -------------------------------------------------------------------------------

    def _assign(self, value: Tensor) -> Tensor:
        """Rebind to new values, as in-place methods do; all that share its memory see them.

        Raises:
            GradientError: it is a leaf that requires a gradient, or a view of one, and gradients
                are on.
            UnsupportedError: PyTorch would write to several elements at once.
        """
        if self._token is not None and is_grad_enabled():
            raise GradientError(
                "a leaf that requires a gradient is changed in place.", "Do it under no_grad()."
            )
        if not are_same(value._shape, self._shape):
            raise ShapeError(f"values of shape {value.shape} assigned to shape {self.shape}.")
        value = value.to(self.dtype)
        check_written(self._node, value._node)
        if self._requires_grad and not value._requires_grad and is_grad_enabled():
            value = Tensor._of(aliases.overwriting(self._node, value._node), self._device)
            value._requires_grad = True
        if aliases.is_shared(self):
            aliases.write(self, value)
            return self
        trace = tracer()
        if trace is not None:
            trace.note(self)
        if self._token is not None:
            self._rebind(value._without_history()._node, value._storage)
        elif self._requires_grad and not is_grad_enabled():
            self._node = aliases.with_history_of(self._node, value._node)
            self._storage = None
        else:
            self._node, self._storage = value._node, value._storage
            self._requires_grad = value._requires_grad
        if self._storage is None:
            mark_pending(self)
        return self


autocasting.install(Tensor)
give_numpy_names(Tensor)


def _python_number(value: Any, dtype: DType) -> bool | int | float:
    if dtype.is_bool:
        return bool(value)
    return float(value) if dtype.is_float else int(value)


def _detached(node: Node, params: tuple[str, ...] = ()) -> Node:
    return make(Op.CUSTOM_VJP, node, rule="detach", params=params)


def leaf_of(mark: Node) -> Tensor | None:
    """The leaf that a mark stands for, while it lives."""
    return _leaves.get(mark.attr("params")[0])


def gradients_of(
    output: Tensor, gradient: Tensor | None, wrt: list[Node], create_graph: bool,
    order: Sequence[Node] | None = None,
) -> list[Node | None]:  # fmt: skip
    trace = tracer()
    if trace is not None:
        trace.differentiated = True
    note_gradients(create_graph)
    if not output._requires_grad:
        raise GradientError(
            "backward() of a tensor that does not require a gradient.",
            "Nothing it was computed from has requires_grad=True, or it was made under no_grad().",
        )
    if gradient is None:
        if output.numel() != 1:
            raise GradientError(
                f"backward() of a tensor of shape {output.shape} needs the gradient of it.",
                "Call it on a scalar, such as a mean of losses, or pass gradient=.",
            )
        gradient = output._constant(1, output.dtype).expand(output.shape)
    if gradient.shape != output.shape:
        raise GradientError(
            f"the gradient has shape {gradient.shape}, the tensor {output.shape}.",
            "They must be equal.",
        )
    with autocasting.no_autocast():
        given = gradient.to(output.dtype)._node
        with looking_for_nan(output) as watch:
            return gradients(output._node, given, wrt, create_graph, order, modes(), watch)


def gradient_tensor(node: Node, leaf: Tensor, create_graph: bool) -> Tensor:
    g = Tensor._of(node if create_graph else _detached(node), leaf._device)
    g._requires_grad = create_graph
    return g


# -- making tensors -----------------------------------------------------------------------------


def tensor(
    data: Any,
    *,
    dtype: DType | None = None,
    device: str | Device | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor with a copy of `data`, as torch.tensor.

    Args:
        data: a number, nested sequences, a NumPy array, torch's tensor, anything with `__array__`.
        dtype: by default that of the data; Python floats become `get_default_dtype()`.
        device: by default that of `get_default_device`, or the GPU that torch's tensor is on.
        requires_grad: whether it is a leaf that gradients are collected for.

    Raises:
        DTypeError: the data has no numeric dtype.

    >>> import tgrad
    >>> tgrad.tensor([[1, 2], [3, 4]]).sum().item()
    10
    """
    if is_complex(data):
        from tgrad.complex_numbers.creation import copied

        return copied(data, dtype, device, requires_grad)
    given, data = data, taken_from_gpu(data)
    usual = get_default_device() if given is data else data.device
    target = usual if device is None else as_device(device)
    if isinstance(data, Tensor):
        copy = data._without_history().to(target)
        copy = copy if dtype is None else copy.to(dtype)
        return copy.requires_grad_(requires_grad)
    try:
        array = host_array(data)
    except ValueError as error:
        raise ShapeError(f"data that is no array: {error}", "Give rows of one length.") from None
    if array.dtype.kind == "c" or dt.as_complex_dtype(dtype) is not None:
        from tgrad.complex_numbers.creation import of_array

        return of_array(array, dtype, target, requires_grad, hasattr(data, "dtype"))
    if dtype is None and array.dtype == np.float64 and not hasattr(data, "dtype"):
        dtype = dt.get_default_dtype()
    found = dt.from_numpy(array.dtype) if dtype is None else as_dtype(dtype)
    with np.errstate(over="ignore"):  # PyTorch gives infinity and says nothing
        if found.is_narrow and array.dtype != found.numpy:
            array = dt.saturated(array.astype(np.float32), found)
        array = np.ascontiguousarray(array.astype(found.numpy, copy=False)).reshape(array.shape)
    storage = upload(array, found, target)
    note_constant(storage, array)
    result = Tensor._of(make(Op.BUFFER, storage=storage), target, storage)
    return result.requires_grad_() if requires_grad else result
