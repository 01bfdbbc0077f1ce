"""How tensors print.

In: options. Out: what NumPy's printing takes. Invariant: without a call, NumPy's own options.
Source: https://docs.pytorch.org/docs/stable/generated/torch.set_printoptions.html
"""

from __future__ import annotations

import math
from typing import Any

from tgrad.errors import UnsupportedError

PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "max_line_width": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "max_line_width": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "max_line_width": 80},
}

_options: dict[str, Any] = {}


def set_printoptions(
    precision: int | None = None,
    threshold: int | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Choose how tensors print; what is left out stays as it is.

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
    tensor([0.33, 2.  ])
    >>> tgrad.set_printoptions(precision=8)
    """
    if profile is not None and profile not in PROFILES:
        raise UnsupportedError(
            f"set_printoptions: profile={profile!r}.", f"Use {', '.join(PROFILES)}."
        )
    _options.update(PROFILES.get(profile or "", {}))
    given = {
        "precision": precision, "threshold": threshold, "edgeitems": edgeitems,
        "max_line_width": linewidth,
    }  # fmt: skip
    _options.update({name: value for name, value in given.items() if value is not None})
    if sci_mode is not None:
        _options["sci_mode"] = sci_mode


def print_options() -> dict[str, Any]:
    """Arguments of `numpy.array2string`."""
    options = dict(_options)
    sci_mode = options.pop("sci_mode", None)
    if sci_mode is False:
        options["suppress_small"] = True
    elif sci_mode:
        digits = options.get("precision", 4)
        options["formatter"] = {"float_kind": lambda value: f"{value:.{digits}e}"}
    return options
