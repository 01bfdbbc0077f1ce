"""Transforms of overlapping frames of a signal, and the signal that frames add up to.

In: signals; or their complex transforms. Out: the other. Invariant: frames are windows of an axis,
read and added up by index arithmetic; their transforms are tgrad.fft's. Inside, complex values are
pairs: real tensors with a last axis of 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

from tgrad import dtype as dt
from tgrad.autodiff.overlaps import overlap_added
from tgrad.complex_numbers.tensor import ComplexTensor
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.fft.pairs import conjugate, extended, pair, times
from tgrad.fft.transforms import of_pairs, pairs_of_real, real_of_pairs
from tgrad.joining import padded
from tgrad.tensor import Tensor, labelled

LEAST_ENVELOPE = 1e-11
"""Squared windows that add up to less leave a sample undetermined."""


@dataclass(frozen=True)
class Framing:
    """How a signal is cut into frames.

    Attributes:
        n_fft: elements of a frame.
        hop: from a frame to the next.
        win_length: elements of a frame that the window keeps, in its middle.
    """

    n_fft: int
    hop: int
    win_length: int

    @property
    def left(self) -> int:
        """Elements before those that the window keeps."""
        return (self.n_fft - self.win_length) // 2

    def length(self, count: int) -> int:
        """Elements of the signal that so many frames cover."""
        return self.n_fft + self.hop * (count - 1)


@labelled("stft")
def stft(
    input: Any,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Any = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Any:
    """The Fourier transforms of overlapping frames of a signal:
    X[f, t] = sum over k of window[k] x[t hop_length + k] exp(-2 pi i f k / n_fft).

    Args:
        input: (length) or (batch, length), real or complex.
        n_fft: elements of a frame.
        hop_length: from a frame to the next, by default n_fft // 4.
        win_length: length of the window, which lies in the middle of the frame; by default n_fft.
        window: (win_length), real or complex; by default ones.
        center: whether frame t has its middle at t * hop_length of the signal, which is padded.
        pad_mode: how, as for `nn.functional.pad`.
        normalized: whether to multiply by 1 / sqrt(n_fft).
        onesided: whether to give the first n_fft // 2 + 1 frequencies, which determine the others;
            by default true unless the signal or the window is complex.
        return_complex: whether the result is complex, and not real with a last axis of both parts;
            must be said unless the signal or the window is complex.
        align_to_window: for center=False, whether to cut frames at every place where the window,
            and not all of the frame, lies in the signal.

    Returns:
        (batch, frequencies, frames), or without batch.

    Raises:
        ShapeError: the signal has other axes or is shorter than a frame, or a length is out of
            range.
        DTypeError: the dtype is another.
        UnsupportedError: pad_mode has another name, or arguments exclude each other.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.stft.html

    >>> import tgrad
    >>> x = tgrad.tensor([1.0, 2.0, 3.0, 4.0])
    >>> tgrad.stft(x, 2, 2, center=False, return_complex=True).tolist()
    [[(3+0j), (7+0j)], [(-1+0j), (-1+0j)]]
    """
    if input.ndim not in (1, 2):
        raise ShapeError(
            f"stft of shape {input.shape}.", "The shape is (length) or (batch, length)."
        )
    signal, window = _parts_of(input), _as_pairs(window)
    if signal[0].dtype not in (dt.float32, dt.float64):
        raise DTypeError(f"stft of {input.dtype.name}.", "Use float32 or float64.")
    framing = _framing("stft", n_fft, hop_length, win_length, window)
    is_complex = len(signal) == 2 or (window is not None and window.ndim == 2)
    if return_complex is None and not is_complex:
        raise UnsupportedError("stft without return_complex.", "Say True or False.")
    if onesided and is_complex:
        raise UnsupportedError("stft: onesided=True of complex values.", "Leave it out.")
    laid = [_laid_for_frames(x, framing, center, pad_mode, align_to_window) for x in signal]
    frames = [x.unfold(-1, n_fft, framing.hop) for x in laid]
    norm, kept = "ortho" if normalized else None, _frame_of(window, framing, laid[0], is_complex)
    if is_complex:
        whole = times(pair(*frames), kept)
        spectrum = of_pairs(whole, None, -1, norm, False, "stft")
    elif onesided or onesided is None:
        spectrum = pairs_of_real(frames[0] * kept, None, -1, norm, False, "stft")
    else:
        spectrum = of_pairs(pair(frames[0] * kept), None, -1, norm, False, "stft")
    made = spectrum.transpose(-3, -2)
    return made if return_complex is False else ComplexTensor.from_pairs(made)


@labelled("istft")
def istft(
    input: Any,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Any = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Any:
    """The signal of which `stft` gives `input`; of others, that with the nearest `stft`.

    Where the squares of the windows add up to less than 1e-11, the signal is not determined, and
    NaN; PyTorch raises there.

    Args:
        input: complex, (frequencies, frames) or (batch, frequencies, frames).
        n_fft, hop_length, win_length, window, center, normalized: as those of `stft`.
        onesided: whether the frequencies are the first n_fft // 2 + 1; by default their number
            tells.
        length: of the result, which is cut or filled with zeros; by default that of all frames,
            less n_fft // 2 at both ends where they are centred.
        return_complex: whether the signal is complex; then all frequencies must be there.

    Returns:
        (batch, length), or without batch.

    Raises:
        DTypeError: the input is real.
        ShapeError: the input has other axes or none, other frequencies than n_fft, a length is out
            of range, or no frame's window covers an end of the signal.
        UnsupportedError: arguments exclude each other.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.istft.html

    >>> import tgrad
    >>> x, window = tgrad.tensor([1.0, 2.0, 3.0, 4.0]), tgrad.ones(2)
    >>> spectrum = tgrad.stft(x, 2, 1, window=window, return_complex=True)
    >>> tgrad.istft(spectrum, 2, 1, window=window).tolist()
    [1.0, 2.0, 3.0, 4.0]
    """
    if not isinstance(input, ComplexTensor):
        raise DTypeError(f"istft of {input.dtype.name}.", "Give complex values.")
    if input.ndim not in (2, 3) or 0 in input.shape[-2:]:
        raise ShapeError(
            f"istft of shape {input.shape}.",
            "The shape is (frequencies, frames) or (batch, frequencies, frames), none empty.",
        )
    input, window = input.pairs(), _as_pairs(window)
    framing = _framing("istft", n_fft, hop_length, win_length, window)
    if framing.hop > framing.win_length:
        _refuse_length("istft", f"hop_length={framing.hop}", f"1 to {framing.win_length}")
    onesided = _is_onesided(input, n_fft, onesided)
    is_complex = window is not None and window.ndim == 2
    if is_complex and not return_complex:
        raise UnsupportedError(
            "istft: return_complex=False with a complex window.", "Use return_complex=True."
        )
    if onesided and return_complex:
        raise UnsupportedError(
            "istft: return_complex=True with onesided=True.", "Give all frequencies."
        )
    spectrum, norm = input.transpose(-3, -2), "ortho" if normalized else None
    inverse = of_pairs if return_complex else real_of_pairs
    frames = inverse(spectrum, n_fft, -1, norm, True, "istft")
    count = input.shape[-2]
    begin, end = _kept_range(framing, count, center, length)
    kept = _frame_of(window, framing, frames, return_complex)

    def added(t: Tensor) -> Tensor:
        return _added(t, framing, count).narrow(-1, begin, end - begin)

    if return_complex:
        signal, total = times(frames, kept).movedim(-1, 0), times(kept, kept).movedim(-1, 0)
        made = _divided(added(signal).movedim(0, -1), added(_each(total, count)).movedim(0, -1))
    else:
        total = added(_each(kept * kept, count))
        made = added(frames * kept) / _determined(total, total)
    if length is not None and length != end - begin:
        made = extended(made, made.ndim - 1 - return_complex, length)
    return ComplexTensor.from_pairs(made) if return_complex else made


def _parts_of(input: Any) -> list[Tensor]:
    """The real tensors that a signal is made of."""
    return [input.real, input.imag] if isinstance(input, ComplexTensor) else [input]


def _as_pairs(window: Any) -> Tensor | None:
    """A complex window as pairs; a real one as it is."""
    return window.pairs() if isinstance(window, ComplexTensor) else window


# -- lengths -------------------------------------------------------------------------------------


def _framing(
    name: str, n_fft: int, hop: int | None, win_length: int | None, window: Tensor | None
) -> Framing:
    win = n_fft if win_length is None else win_length
    hop = n_fft // 4 if hop is None else hop
    if n_fft < 1:
        _refuse_length(name, f"n_fft={n_fft}", "at least 1")
    if hop < 1:
        _refuse_length(name, f"hop_length={hop}", "at least 1")
    if not 0 < win <= n_fft:
        _refuse_length(name, f"win_length={win}", f"1 to n_fft={n_fft}")
    if window is not None and window.shape not in ((win,), (win, 2)):
        raise ShapeError(
            f"{name}: window of shape {window.shape}, win_length={win}.",
            f"Its shape is ({win},).",
        )
    return Framing(n_fft, hop, win)


def _refuse_length(name: str, given: str, range_: str) -> NoReturn:
    raise ShapeError(f"{name}: {given}.", f"Give {range_}.")


def _laid_for_frames(
    x: Tensor, framing: Framing, center: bool, pad_mode: str, align_to_window: bool | None
) -> Tensor:
    """The signal, padded so that frames begin at its multiples of the hop."""
    if center and align_to_window is not None:
        raise UnsupportedError(
            f"stft: align_to_window={align_to_window!r} with center=True.", "Leave it out."
        )
    last, have = x.ndim - 1, x.shape[-1]
    before = after = framing.n_fft // 2 if center else 0
    if align_to_window:
        before, after = framing.left, framing.n_fft - framing.win_length - framing.left
    if not center or pad_mode == "constant":
        low, high = [0] * last + [before], [0] * last + [after]
        x = x._pad_zero(low, high) if before or after else x
    elif pad_mode in ("reflect", "replicate", "circular"):
        x = padded(x, last, before, after, pad_mode)
    else:
        raise UnsupportedError(
            f"stft: pad_mode={pad_mode!r}.", 'Use "constant", "reflect", "replicate" or "circular".'
        )
    if x.shape[-1] < framing.n_fft:
        raise ShapeError(
            f"stft of {have} samples with frames of n_fft={framing.n_fft}.",
            "Give more samples, or pad them.",
        )
    return x


def _is_onesided(input: Tensor, n_fft: int, onesided: bool | None) -> bool:
    """Whether only the first frequencies are given."""
    have = input.shape[-3]
    onesided = have != n_fft if onesided is None else onesided
    want = n_fft // 2 + 1 if onesided else n_fft
    if have != want:
        raise ShapeError(
            f"istft of {have} frequencies with n_fft={n_fft}, onesided={onesided}.",
            f"Give {want}.",
        )
    return onesided


def _kept_range(framing: Framing, count: int, center: bool, length: int | None) -> tuple[int, int]:
    """Where the wanted samples begin and end in the sum of the frames."""
    whole = framing.length(count)
    begin = framing.n_fft // 2 if center else 0
    end = whole - begin if length is None else min(begin + length, whole)
    if end <= begin:
        raise ShapeError(
            f"istft of {count} frames of {framing.n_fft}, length={length}: no samples are left.",
            "Give more frames, or center=False.",
        )
    if begin < framing.left or end > whole - (framing.n_fft - framing.win_length - framing.left):
        raise ShapeError(
            f"istft: windows of {framing.win_length} in frames of {framing.n_fft} leave samples "
            "at the ends undetermined.",
            "Use center=True, a smaller length or longer windows.",
        )
    return begin, end


# -- frames --------------------------------------------------------------------------------------


def _frame_of(window: Tensor | None, framing: Framing, like: Tensor, is_complex: bool) -> Tensor:
    """The window with zeros on both sides up to a frame; as pairs where the signal is complex."""
    if window is None:
        window = like._constant(1, like.dtype).expand(framing.win_length)
    if is_complex and window.ndim == 1:
        window = pair(window)
    if framing.win_length == framing.n_fft:
        return window
    none = [0] * (window.ndim - 1)
    return extended(window._pad_zero([framing.left, *none], [0, *none]), 0, framing.n_fft)


def _each(window: Tensor, count: int) -> Tensor:
    """(*S, n_fft) once a frame: (*S, count, n_fft)."""
    return window.unsqueeze(-2).expand(*window.shape[:-1], count, window.shape[-1])


def _added(frames: Tensor, framing: Framing, count: int) -> Tensor:
    """(*S, count, n_fft) as the signals (*S, length) that the frames add up to."""
    node = overlap_added(frames._node, frames.ndim - 2, framing.hop, 1, framing.length(count))
    return Tensor._result(node, frames.device, (frames,))


def _determined(total: Tensor, size: Tensor) -> Tensor:
    """The sum of squared windows, or NaN where its size is next to nothing."""
    return total.where(size >= LEAST_ENVELOPE, math.nan)


def _divided(z: Tensor, total: Tensor) -> Tensor:
    """Pairs by the pairs (length, 2)."""
    square = (total * total).sum(-1, keepdim=True)
    return times(z, conjugate(total)) / _determined(square, square.sqrt())
