"""How tensors print: PyTorch's text.

In: values on the host, and what the tensor says of itself. Out: text. Invariant: the text is
PyTorch's for the same values, but for the names of dtypes, which are tgrad's, and of `grad_fn`,
whose names are those of tgrad's operations.
Source: https://docs.pytorch.org/docs/stable/generated/torch.set_printoptions.html
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tgrad.dtype import get_default_dtype
from tgrad.errors import UnsupportedError


@dataclass(frozen=True)
class PrintOptions:
    """What `set_printoptions` chooses; see there."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


PROFILES = {
    "default": PrintOptions(),
    "short": PrintOptions(precision=2, edgeitems=2),
    "full": PrintOptions(threshold=math.inf),
}

_options = PROFILES["default"]


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Choose how tensors print; what is left out stays as it is, but for `sci_mode`.

    Args:
        precision: digits after the point.
        threshold: elements beyond which the middle is left out.
        edgeitems: how many elements then stand at each end of an axis.
        linewidth: characters of a line.
        profile: "default", "short" or "full": PyTorch's options of these names.
        sci_mode: whether floats have exponents; left out, where they are needed.

    Raises:
        UnsupportedError: there is no such profile.

    >>> import tgrad
    >>> tgrad.set_printoptions(precision=2)
    >>> tgrad.tensor([1 / 3, 2.0])
    tensor([0.33, 2.00])
    >>> tgrad.set_printoptions(profile="default")
    >>> tgrad.tensor([1 / 3, 2.0])
    tensor([0.3333, 2.0000])
    """
    global _options
    if profile is not None and profile not in PROFILES:
        raise UnsupportedError(
            f"set_printoptions: profile={profile!r}.", f"Use {', '.join(PROFILES)}."
        )
    chosen = _options if profile is None else PROFILES[profile]
    given = {
        "precision": precision, "threshold": threshold, "edgeitems": edgeitems,
        "linewidth": linewidth,
    }  # fmt: skip
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    _options = replace(chosen, **changed, sci_mode=sci_mode)


def text_of_tensor(t: Any) -> str:
    """A tensor as PyTorch prints it; one on the device meta, without values."""
    gradient = "requires_grad=True" if t.is_leaf else f"grad_fn={t.grad_fn}"
    gradient = gradient if t.requires_grad else ""
    is_default = t.dtype is get_default_dtype()
    if t.is_meta:
        parts = ["...", "device='meta'", f"size={tuple(t.shape)}"]
        parts += [] if is_default else [f"dtype={t.dtype}"]
        return f"tensor({', '.join([*parts, *([gradient] if gradient else [])])})"
    array = t.numpy().astype(np.float32) if t.dtype.is_narrow else t.numpy()
    return text_of(array, t.dtype, is_default, t.device, gradient)


def text_of(
    values: np.ndarray, dtype: Any, is_default: bool, device: Any, gradient: str = ""
) -> str:
    """`tensor(...)` as PyTorch prints it.

    Args:
        values: of any shape; floats of 16 bits or less may be given as wider ones.
        dtype: named unless the text tells it.
        is_default: whether that is the default dtype of floats, or of complex numbers.
        device: named unless it is "cpu".
        gradient: what stands last, such as "requires_grad=True".

    >>> text_of(np.array([1.0, -0.5]), "float32", True, "cpu")
    'tensor([ 1.0000, -0.5000])'
    >>> text_of(np.zeros((0, 3), np.int64), "int64", False, "cpu")
    'tensor([], size=(0, 3), dtype=int64)'
    """
    options = _options
    is_told = values.size > 0 and values.dtype.name in ("int64", "bool")
    is_told |= is_default and (values.size > 0 or values.dtype.kind != "c")
    says_size = values.ndim != 1 if values.size == 0 else not options.edgeitems
    parts = [] if str(device) == "cpu" else [f"device='{device}'"]
    parts += [f"size={values.shape}"] if says_size else []
    parts += [] if is_told else [f"dtype={dtype}"]
    parts += [gradient] if gradient else []
    start = "tensor("
    text = start + (_body(values, len(start), options) if values.size else "[]")
    room = options.linewidth - (len(text) - text.rfind("\n") + 1)
    for part in parts:
        room -= len(part) + 2
        if room < 0:
            text += ",\n" + " " * len(start) + part
            room = options.linewidth - len(start) - len(part)
        else:
            text += f", {part}"
    return f"{text})"


def _body(values: np.ndarray, indent: int, options: PrintOptions) -> str:
    """The elements in brackets, the middle of long axes left out of what is large."""
    is_short = values.size > options.threshold
    shown = _edges(values, options.edgeitems) if is_short else values
    if np.iscomplexobj(values):
        real, imag = (_Number.of(part, options) for part in (shown.real, shown.imag))
        words = _Words(real.width + imag.width + 1, _of_pairs(real, imag))
    else:
        number = _Number.of(shown, options)
        words = _Words(number.width, number)
    return _nested(values, indent, options.edgeitems if is_short else None, words, options)


def _edges(values: np.ndarray, edgeitems: int) -> np.ndarray:
    """What is left of an array when the middle of each long axis is left out."""
    if not edgeitems:
        return values if values.ndim == 1 else values[:0]
    for axis, size in enumerate(values.shape):
        if size > 2 * edgeitems:
            kept = [*range(edgeitems), *range(size - edgeitems, size)]
            values = values.take(kept, axis)
    return values


@dataclass(frozen=True)
class _Words:
    """How elements are written: `write` one, and how wide most of them are."""

    width: int
    write: Any


def _nested(
    values: np.ndarray, indent: int, edgeitems: int | None, words: _Words, options: PrintOptions
) -> str:
    """An array in brackets; `edgeitems` is None where nothing is left out."""
    if not values.ndim:
        return str(words.write(values.item()))
    is_cut = edgeitems is not None and len(values) > 2 * edgeitems
    first, last = (values[:edgeitems], values[len(values) - (edgeitems or 0) :]) if is_cut else (
        values, values[:0])  # fmt: skip
    if values.ndim == 1:
        gap = ["..." if edgeitems == 0 else " ..."] if is_cut else []
        parts = [words.write(v) for v in first.tolist()] + gap
        parts += [words.write(v) for v in last.tolist()]
        count = max(1, (options.linewidth - indent) // (words.width + 2))
        lines = [", ".join(parts[i : i + count]) for i in range(0, len(parts), count)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    inner = [_nested(v, indent + 1, edgeitems, words, options) for v in first]
    inner += ["..."] if is_cut else []
    inner += [_nested(v, indent + 1, edgeitems, words, options) for v in last]
    return "[" + ("," + "\n" * (values.ndim - 1) + " " * (indent + 1)).join(inner) + "]"


@dataclass(frozen=True)
class _Number:
    """How the numbers of a tensor are written, all alike.

    Attributes:
        width: of the widest; infinities and NaN do not count.
        spec: of `format`; empty for what is no float.
        end: what follows a finite number: a point, where all are whole.
    """

    width: int
    spec: str
    end: str

    @staticmethod
    def of(values: np.ndarray, options: PrintOptions) -> _Number:
        """What suits all of them: exponents where they differ by more than 1000, are beyond 1e8 or
        below 1e-4; no digits after the point where all are whole."""
        if values.dtype.kind in "biu":
            lengths = [len(str(v)) for v in values.reshape(-1).tolist()]
            return _Number(max(lengths, default=1), "", "")
        with np.errstate(invalid="ignore"):
            wide = values.astype(np.float64).reshape(-1)
        wide = wide[np.isfinite(wide) & (wide != 0)]
        if not wide.size:
            return _Number(1, ".0f", ".")
        sizes = np.abs(wide)
        low, high = float(sizes.min()), float(sizes.max())
        has_exponents = options.sci_mode
        if has_exponents is None:
            has_exponents = high / low > 1000 or high > 1e8 or low < 1e-4
        is_whole = bool((wide == np.ceil(wide)).all())
        if has_exponents:
            spec, end = f".{options.precision}e", ""
        else:
            spec, end = (".0f", ".") if is_whole else (f".{options.precision}f", "")
        return _Number(max(len(format(v, spec)) for v in wide.tolist()) + len(end), spec, end)

    def __call__(self, value: Any) -> str:
        if not self.spec:
            return str(value).rjust(self.width)
        text = format(value, self.spec) + (self.end if math.isfinite(value) else "")
        return text.rjust(self.width)


def _of_pairs(real: _Number, imag: _Number) -> Any:
    """Writes a complex number by how its parts are written."""

    def write(value: complex) -> str:
        second = imag(value.imag).lstrip()
        return f"{real(value.real)}{'' if second[0] in '+-' else '+'}{second}j"

    return write
