"""Recurrent layers and cells against PyTorch's: the same weights, outputs, states, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import normal
from tgrad import nn
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.graph.node import toposort

LENGTH, BATCH, INPUTS, HIDDEN = 3, 2, 5, 6

LAYERS = {
    "RNN": (lambda nn: nn.RNN(5, 6), 1),
    "RNN_relu": (lambda nn: nn.RNN(5, 6, 2, "relu", bidirectional=True), 1),
    "RNN_no_bias": (lambda nn: nn.RNN(5, 6, bias=False, batch_first=True), 1),
    "LSTM": (lambda nn: nn.LSTM(5, 6), 2),
    "LSTM_no_bias": (lambda nn: nn.LSTM(5, 6, bias=False), 2),
    "LSTM_deep": (lambda nn: nn.LSTM(5, 6, 2, batch_first=True, bidirectional=True), 2),
    "LSTM_projected": (lambda nn: nn.LSTM(5, 6, 2, bidirectional=True, proj_size=3), 2),
    "GRU": (lambda nn: nn.GRU(5, 6), 1),
    "GRU_no_bias": (lambda nn: nn.GRU(5, 6, bias=False), 1),
    "GRU_deep": (lambda nn: nn.GRU(5, 6, 3, True, True, 0.0, True), 1),
}
"""A layer, and the tensors of its state."""

CELLS = {
    "RNNCell": (lambda nn: nn.RNNCell(5, 6), 1),
    "RNNCell_relu": (lambda nn: nn.RNNCell(5, 6, False, "relu"), 1),
    "LSTMCell": (lambda nn: nn.LSTMCell(5, 6), 2),
    "LSTMCell_no_bias": (lambda nn: nn.LSTMCell(5, 6, bias=False), 2),
    "GRUCell": (lambda nn: nn.GRUCell(5, 6), 1),
    "GRUCell_no_bias": (lambda nn: nn.GRUCell(5, 6, False), 1),
}

MADE = {**LAYERS, **CELLS}

FORMS = pytest.mark.parametrize(
    ("name", "has_state", "is_batched"),
    [
        *((name, True, True) for name in MADE),
        *((name, False, False) for name in MADE),
        *((name, True, False) for name in ("RNN", "LSTM", "LSTMCell")),
        *((name, False, True) for name in ("RNN", "LSTM", "LSTMCell")),
    ],
)


def pair(name, device):
    """A module of tgrad and PyTorch's with the same weights."""
    make, _ = MADE[name]
    theirs = make(torch.nn)
    ours = make(nn).to(device)
    assert {k: tuple(v.shape) for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def state_of(module, is_batched):
    """The shapes of a state: h, and c of an LSTM."""
    if isinstance(module, torch.nn.RNNCellBase):
        lead, sizes = (), (HIDDEN, HIDDEN)
    else:
        lead = (module.num_layers * (2 if module.bidirectional else 1),)
        sizes = (module.proj_size or HIDDEN, HIDDEN)
    return [(*lead, *((BATCH,) if is_batched else ()), n) for n in sizes]


def flat(result):
    """The tensors of a result: a tensor, or tuples of them."""
    if not isinstance(result, tuple):
        return [result]
    return [t for part in result for t in flat(part)]


def check(ours, theirs, x, states, device):
    """Outputs and states, and the gradients of inputs, states and weights."""
    arrays = [x, *states]
    mine = [tgrad.tensor(a, device=device, requires_grad=True) for a in arrays]
    other = [torch.tensor(a, requires_grad=True) for a in arrays]
    results = []
    for module, (x, *state) in ((ours, mine), (theirs, other)):
        hx = tuple(state) if len(state) > 1 else state[0] if state else None
        results.append(flat(module(x, hx)))
    for k, (y, z) in enumerate(zip(*results, strict=True)):
        near(y, z)
        weight = normal(90 + k, *z.shape)
        results[0][k] = (y * tgrad.tensor(weight, device=device)).sum()
        results[1][k] = (z * torch.tensor(weight)).sum()
    sum(results[0][1:], results[0][0]).backward()
    sum(results[1][1:], results[1][0]).backward()
    for t, u in zip(mine, other, strict=True):
        near(t.grad, u.grad)
    for (key, p), (other_key, q) in zip(
        ours.named_parameters(), theirs.named_parameters(), strict=True
    ):
        assert key == other_key
        near(p.grad, q.grad)


def near(ours, theirs):
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-5 * (1 + abs(theirs).max()))


@FORMS
def test_outputs_states_and_gradients(name, has_state, is_batched, device):
    ours, theirs = pair(name, device)
    shape = [BATCH, INPUTS] if is_batched else [INPUTS]
    if name in LAYERS:
        shape.insert(1 if is_batched and theirs.batch_first else 0, LENGTH)
    shapes = state_of(theirs, is_batched)[: MADE[name][1]] if has_state else []
    states = [normal(7 + k, *s) for k, s in enumerate(shapes)]
    check(ours, theirs, normal(1, *shape), states, device)


@pytest.mark.parametrize("name", MADE)
def test_names_and_repr_are_pytorchs(name):
    make, _ = MADE[name]
    ours, theirs = make(nn), make(torch.nn)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.mode == theirs.mode if name in LAYERS else True


def test_repr_of_dropout_is_pytorchs():
    assert repr(nn.LSTM(5, 6, 2, dropout=0.5)) == repr(torch.nn.LSTM(5, 6, 2, dropout=0.5))


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_dtypes(dtype, device):
    ours, theirs = pair("LSTM", device)
    x = torch.tensor(normal(1, LENGTH, BATCH, INPUTS)).to(getattr(torch, dtype))
    want = theirs.to(x.dtype).double()(x.double())[0].detach().numpy()
    kind = getattr(tgrad, dtype)
    got = ours.to(kind)(tgrad.tensor(x.double().numpy(), dtype=kind, device=device))[0]
    assert got.dtype is kind
    tolerance = {"float64": 1e-6, "float16": 3e-3, "bfloat16": 3e-2}[dtype]
    np.testing.assert_allclose(got.to(tgrad.float64).numpy(), want, atol=tolerance)


def test_gradient_of_a_gradient(device):
    ours, theirs = pair("GRU", device)
    x = normal(1, LENGTH, BATCH, INPUTS)
    mine = tgrad.tensor(x, device=device, requires_grad=True)
    other = torch.tensor(x, requires_grad=True)
    (g,) = tgrad.autograd.grad(ours(mine)[0].square().sum(), [mine], create_graph=True)
    (h,) = torch.autograd.grad(theirs(other)[0].square().sum(), [other], create_graph=True)
    g.square().sum().backward()
    h.square().sum().backward()
    near(mine.grad, other.grad)
    near(ours.weight_hh_l0.grad, theirs.weight_hh_l0.grad)


def test_dropout_is_between_layers_and_in_training_alone(device):
    ours, theirs = pair("LSTM_deep", device)
    x = normal(1, BATCH, LENGTH, INPUTS)
    mine, other = tgrad.tensor(x, device=device), torch.tensor(x)
    ours.dropout = theirs.dropout = 1.0  # nothing reaches the second layer but its biases
    near(ours(mine)[0], theirs(other)[0])
    near(ours.eval()(mine)[0], theirs.eval()(other)[0])
    ours.train().dropout = 0.5
    tgrad.manual_seed(0)
    first, second = ours(mine), ours(mine)
    assert (first[0].numpy() != second[0].numpy()).any()
    (h, _), (g, _) = first[1], second[1]
    np.testing.assert_array_equal(h[:2].numpy(), g[:2].numpy())  # of the first layer
    assert (h[2:].numpy() != g[2:].numpy()).any()


def test_dropout_of_one_layer_warns():
    with pytest.warns(UserWarning, match=r"GRU: dropout=0\.5 is between layers; there is one\."):
        nn.GRU(5, 6, dropout=0.5)


def test_weights_of_each_run():
    ours, theirs = LAYERS["LSTM_deep"][0](nn), LAYERS["LSTM_deep"][0](torch.nn)
    ours.flatten_parameters()
    shapes = [[tuple(p.shape) for p in run] for run in ours.all_weights]
    assert shapes == [[tuple(p.shape) for p in run] for run in theirs.all_weights]
    assert ours.all_weights[1][0] is ours.weight_ih_l0_reverse


def test_initial_values_are_within_pytorchs_bound(device):
    tgrad.manual_seed(0)
    for p in nn.LSTM(20, 100).to(device).parameters():
        values = p.numpy()
        assert abs(values).max() <= 0.1
        assert values.std() == pytest.approx(0.1 / 3**0.5, rel=0.1)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_step_adds_few_nodes(kind):
    layer = getattr(nn, kind)(5, 6).to("numpy")

    def nodes(length: int) -> int:
        _, state = layer(tgrad.ones(length, BATCH, INPUTS, device="numpy"))
        return len(toposort([flat(state)[0]._node]))

    assert (nodes(9) - nodes(5)) / 4 == {"RNN": 5, "LSTM": 17, "GRU": 20}[kind]


def test_a_compiled_training_step_learns(device):
    tgrad.manual_seed(0)
    model = nn.GRU(2, 8, batch_first=True, device=device)
    head = nn.Linear(8, 1, device=device)
    optimizer = tgrad.optim.Adam([*model.parameters(), *head.parameters()], lr=0.05)
    x = tgrad.tensor(normal(1, 8, 3, 2), device=device)

    @tgrad.compile
    def step(x):
        loss = nn.functional.mse_loss(head(model(x)[1][0])[:, 0], x[:, 0, 0] * x[:, -1, 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    losses = [step(x).item() for _ in range(10)]
    assert losses[-1] < 0.7 * losses[0]


# -- mistakes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.LSTM(5, 0), "LSTM: input_size=5, hidden_size=0, num_layers=1."),
        (lambda: nn.GRU(5, 6, num_layers=0), "GRU: input_size=5, hidden_size=6, num_layers=0."),
        (lambda: nn.LSTM(5, 6, proj_size=6), "LSTM: proj_size=6."),
        (lambda: nn.LSTM(5, 6, 2, dropout=1.5), "LSTM: dropout=1.5."),
        (lambda: nn.GRUCell(0, 6), "GRUCell: input_size=0, hidden_size=6."),
        (lambda: nn.LSTM(5, 6)(tgrad.ones(4)), "LSTM of shape (4,)."),
        (lambda: nn.LSTM(5, 6)(tgrad.ones(4, 3, 2)), "LSTM of shape (4, 3, 2)."),
        (lambda: nn.LSTMCell(5, 6)(tgrad.ones(4, 3, 5)), "LSTMCell of shape (4, 3, 5)."),
        (lambda: nn.RNN(5, 6)(tgrad.ones(0, 3, 5)), "RNN over a sequence of length 0."),
        (
            lambda: nn.GRU(5, 6)(tgrad.ones(4, 3, 5), tgrad.ones(1, 2, 6)),
            "GRU with a state of shapes (1, 2, 6).\n  Give (1, 3, 6).",
        ),
        (
            lambda: nn.LSTM(5, 6)(tgrad.ones(4, 5), (tgrad.ones(1, 6), tgrad.ones(1, 1, 6))),
            "LSTM with a state of shapes (1, 6), (1, 1, 6).",
        ),
        (
            lambda: nn.LSTMCell(5, 6)(tgrad.ones(3, 5), (tgrad.ones(3, 6), tgrad.ones(3, 5))),
            "LSTMCell with a state of shapes (3, 6), (3, 5).",
        ),
    ],
)
def test_sizes_that_do_not_fit(make, message):
    with pytest.raises(ShapeError) as caught:
        make()
    what, hint = caught.value.what, caught.value.hint
    assert f"{what}\n  {hint}".startswith(message) and hint


def test_other_arguments_are_refused():
    with pytest.raises(UnsupportedError, match="nonlinearity='gelu'"):
        nn.RNN(5, 6, nonlinearity="gelu")
    with pytest.raises(UnsupportedError, match="nonlinearity='gelu'"):
        nn.RNNCell(5, 6, nonlinearity="gelu")
    with pytest.raises(TypeError, match="proj_size"):
        nn.GRU(5, 6, proj_size=3)
    with pytest.raises(DTypeError, match="LSTM of float64 with weights of float32"):
        nn.LSTM(5, 6)(tgrad.ones(4, 3, 5, dtype=tgrad.float64))
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.ones(4, 1, 5), [4])
    with pytest.raises(UnsupportedError, match="GRU of a PackedSequence"):
        nn.GRU(5, 6)(packed)
