"""JAX: each function and step under `jax.jit`, results waited for.

In: a case. Out: it, loaded. Invariant: a program here computes what the case's program computes; a
case without one is `Unsupported`. Training steps are in `jax_steps`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.case import Case, Inputs, StepCase, expanded, sampled
from bench.peers import Loaded, Unsupported
from bench.peers.jax_steps import narrow, training_step


def _layer_norm(x: Any, weight: Any, bias: Any) -> Any:
    mean = x.mean(1, keepdims=True)
    variance = ((x - mean) ** 2).mean(1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * weight + bias


def _conv(x: Any, weight: Any, padding: str) -> Any:
    return jax.lax.conv_general_dilated(x, weight, (1, 1), padding)


def _attention(q: Any, k: Any, v: Any) -> Any:
    scores = jnp.einsum("bhqd,bhkd->bhqk", q, k) * q.shape[-1] ** -0.5
    allowed = jnp.tri(scores.shape[-1], dtype=bool)
    return jax.nn.softmax(jnp.where(allowed, scores, -jnp.inf), axis=-1) @ v


PROGRAMS: dict[str, Callable[..., Any]] = {
    "elementwise": lambda a, b: jnp.tanh(a * b + a) * jax.nn.sigmoid(b) - a,
    "sum_rows": lambda x: x.sum(1),
    "sum_columns": lambda x: x.sum(0),
    "softmax": lambda x: jax.nn.softmax(x, axis=1),
    "layer_norm": _layer_norm,
    "matmul": jnp.matmul,
    "linear_gelu": lambda x, w, b: jax.nn.gelu(x @ w.T + b, approximate=False),
    "batched_matmul": jnp.matmul,
    "conv_3x3": lambda x, w: _conv(x, w, "SAME"),
    "conv_5x5": lambda x, w: jax.nn.relu(_conv(x, w, "VALID")),
    "attention": _attention,
    "transpose": lambda x: x.T,
    "gather": lambda table, index: table[index],
}


def make(option: str, device: str) -> JaxPeer:
    """The peer, on the CPU."""
    if option or device != "cpu":
        raise ValueError(f"jax is measured on the CPU, without options; got {option!r}, {device!r}")
    return JaxPeer()


class JaxPeer:
    """See bench/peers/__init__.py."""

    def versions(self) -> dict[str, str]:
        return {"jax": jax.__version__}

    def load(self, case: Case, arrays: Inputs, copies: int = 1) -> Loaded:
        arrays = expanded(arrays)
        if isinstance(case, StepCase):
            return Loaded([training_step(case, arrays)], _read)
        if copies > 1 or case.key not in PROGRAMS or case.has_gradient or case.dtype != "float32":
            raise Unsupported(f"no program for {case.key} is written for JAX")
        function = jax.jit(PROGRAMS[case.key])
        inputs = [jax.device_put(narrow(a)) for a in arrays.values()]
        jax.block_until_ready(inputs)
        return Loaded([lambda: function(*inputs).block_until_ready()], _read)


def _read(result: Any) -> list[np.ndarray]:
    return [sampled(np.asarray(result))]
