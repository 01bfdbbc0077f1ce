"""Training steps for JAX: the models of `bench/models.py` as functions of their parameters.

In: a step's key, its initial state and batch. Out: a function that trains once and returns the
loss. Invariant: forward, backward and update are one `jax.jit`, which may overwrite the state
before; the parameters have PyTorch's names, and images lie channels last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.case import Arrays, StepCase, batch_of, state_of
from bench.peers import Unsupported

Parameters = dict[str, jax.Array]
Model = Callable[[Parameters, jax.Array], tuple[jax.Array, Parameters]]
"""(state, inputs) in; (logits, new running statistics) out."""

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
MOMENTUM = 0.1
CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
HEADS = {16: 2, 128: 4}
"""Heads by width, as `bench/steps.py` gives them."""


def training_step(case: StepCase, arrays: Arrays) -> Callable[[], jax.Array]:
    """The case's step with its initial state; it keeps the state between calls.

    Raises:
        Unsupported: no model is written for this key.
    """
    if case.key not in _STEPS:
        raise Unsupported(f"no program for {case.key} is written for JAX")
    model, rate, decay = _STEPS[case.key]
    state = {k: jnp.asarray(_channels_last(a)) for k, a in state_of(arrays).items()}
    inputs, targets = (jnp.asarray(narrow(_channels_last(a))) for a in batch_of(arrays))
    statistics = {k: v for k, v in state.items() if k.endswith(STATISTICS)}
    parameters = {k: v for k, v in state.items() if k not in statistics}
    moments = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]

    def loss_of(parameters: Parameters, statistics: Parameters) -> tuple[jax.Array, Parameters]:
        logits, updated = model({**parameters, **statistics}, inputs)
        rows = jax.nn.log_softmax(logits.reshape(-1, logits.shape[-1]))
        picked = jnp.take_along_axis(rows, targets.reshape(-1, 1), axis=1)
        return -picked.mean(), updated

    def step(parameters: Any, statistics: Any, first: Any, second: Any, count: Any) -> Any:
        (loss, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            parameters, statistics
        )
        count = count + 1
        first = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, first, gradients)
        second = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, second, gradients)
        corrected = rate / (1 - BETA1**count), 1 - BETA2**count

        def updated(p: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
            change = corrected[0] * m / (jnp.sqrt(v / corrected[1]) + EPSILON)
            return p * (1 - rate * decay) - change

        parameters = jax.tree.map(updated, parameters, first, second)
        return loss, (parameters, statistics, first, second, count)

    compiled = jax.jit(step, donate_argnums=(0, 1, 2, 3))
    held = [(parameters, statistics, *moments, jnp.float32(0))]

    def call() -> jax.Array:
        loss, held[0] = compiled(*held[0])
        return jax.block_until_ready(loss)

    return call


def narrow(array: np.ndarray) -> np.ndarray:
    """JAX's integers have 32 bits unless asked for more."""
    return array.astype(np.int32) if array.dtype == np.int64 else array


def _channels_last(array: np.ndarray) -> np.ndarray:
    """Images [N, C, H, W] as [N, H, W, C]; kernels [O, I, H, W] as [H, W, I, O] by `_convolve`."""
    return np.moveaxis(array, 1, -1) if array.ndim == 4 else array


def _convnet(state: Parameters, x: jax.Array) -> tuple[jax.Array, Parameters]:
    """`bench.models.convnet` in training mode."""
    updated: Parameters = {}
    for first, second, norm in ((0, 2, 4), (6, 8, 10)):
        x = jax.nn.relu(_convolve(state, str(first), x))
        x = jax.nn.relu(_convolve(state, str(second), x))
        x = _batch_norm(state, str(norm), x, updated)
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = jnp.moveaxis(x, -1, 1).reshape(x.shape[0], -1)
    return _linear(state, "13", x), updated


def _convolve(state: Parameters, name: str, x: jax.Array) -> jax.Array:
    weight = state[f"{name}.weight"].transpose(1, 2, 3, 0)
    y = jax.lax.conv_general_dilated(x, weight, (1, 1), "VALID", dimension_numbers=CHANNELS_LAST)
    return y + state[f"{name}.bias"]


def _batch_norm(state: Parameters, name: str, x: jax.Array, updated: Parameters) -> jax.Array:
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    count = x.size // x.shape[-1]
    for key, value in (("mean", mean), ("var", variance * count / (count - 1))):
        place = f"{name}.running_{key}"
        updated[place] = (1 - MOMENTUM) * state[place] + MOMENTUM * value
    tracked = f"{name}.num_batches_tracked"
    updated[tracked] = state[tracked] + 1
    scale = jax.lax.rsqrt(variance + 1e-5) * state[f"{name}.weight"]
    return (x - mean) * scale + state[f"{name}.bias"]


def _linear(state: Parameters, name: str, x: jax.Array) -> jax.Array:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _gpt(state: Parameters, tokens: jax.Array) -> tuple[jax.Array, Parameters]:
    """`bench.models.gpt`, its sizes taken from the state."""
    x = state["tokens.weight"][tokens] + state["positions.weight"][: tokens.shape[1]]
    layers = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks."))
    for layer in range(layers):
        block = f"blocks.{layer}"
        x = x + _attention(state, block, _layer_norm(state, f"{block}.norm1", x))
        hidden = _linear(state, f"{block}.mlp.0", _layer_norm(state, f"{block}.norm2", x))
        x = x + _linear(state, f"{block}.mlp.2", jax.nn.gelu(hidden, approximate=False))
    return _layer_norm(state, "norm", x) @ state["head.weight"].T, {}


def _attention(state: Parameters, block: str, x: jax.Array) -> jax.Array:
    """Causal, in JAX's own function: batch x length x heads x width."""
    batch, length, width = x.shape
    heads = HEADS.get(width, max(width // 64, 1))
    q, k, v = (
        part.reshape(batch, length, heads, width // heads)
        for part in jnp.split(_linear(state, f"{block}.attend", x), 3, axis=-1)
    )
    y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    return _linear(state, f"{block}.project", y.reshape(batch, length, width))


def _layer_norm(state: Parameters, name: str, x: jax.Array) -> jax.Array:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    scaled = (x - mean) * jax.lax.rsqrt(variance + 1e-5)
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


_STEPS: dict[str, tuple[Model, float, float]] = {
    "step_convnet": (_convnet, 1e-4, 0.0),
    "step_gpt": (_gpt, 3e-4, 1e-2),
    "step_gpt2": (_gpt, 3e-4, 1e-2),
}
"""Model, learning rate and decoupled weight decay of Adam and AdamW, as in `bench/steps.py`."""
