"""Names at the top of tgrad: functions that live elsewhere, places, and what is out of scope."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import tgrad
from tests.front.checking import normal
from tgrad.errors import TgradError


def test_every_name_is_there_and_is_pytorch_s():
    own = {"Dim", "errors", "explain"}
    for name in tgrad.__all__:
        assert getattr(tgrad, name) is not None or name == "newaxis"
    extra = {n for n in tgrad.__all__ if not hasattr(torch, n)} - own
    assert extra <= {"block_diag", "compile", "cond", "func", "masked", "signal"}, extra


@pytest.mark.parametrize(
    ("call", "shapes"),
    [
        (lambda t, x: t.selu(x), [(3, 4)]),
        (lambda t, x: t.hardshrink(x), [(3, 4)]),
        (lambda t, x, w: t.prelu(x, w), [(3, 4), (4,)]),
        (lambda t, x, w: t.conv2d(x, w, None, 2, 1), [(1, 2, 5, 5), (3, 2, 3, 3)]),
        (lambda t, x, w: t.layer_norm(x, (4,), w), [(3, 4), (4,)]),
        (lambda t, x: t.max_pool2d(x, 2), [(1, 2, 6, 4)]),
        (lambda t, x: t.pixel_shuffle(x, 2), [(1, 4, 2, 3)]),
        (lambda t, x: t.gcd_((x * 9).to(t.int32), (x.flip(0) * 30).to(t.int32)), [(7,)]),
        (lambda t, x: t.threshold(x, 0.1, 5.0), [(7,)]),
        (lambda t, x: t.vander(x, 4), [(5,)]),
        (lambda t, x: t.vander(x, increasing=True), [(3,)]),
        (lambda t, x: t.exp_(x.clone()), [(3,)]),
        (lambda t, x: t.clamp_(x.clone(), -0.5, 0.5), [(9,)]),
        (lambda t, x: t.dropout(x, 0.5, False), [(3, 4)]),
        (lambda t, x: t.is_floating_point(x), [(2,)]),
        (lambda t, x: t.numel(x), [(2, 3)]),
        (lambda t, x: t.is_tensor(x), [(1,)]),
    ],
)
def test_functions_like_torch(call, shapes):
    arrays = [normal(i, *shape) for i, shape in enumerate(shapes)]
    have = call(tgrad, *(tgrad.tensor(a, device="numpy") for a in arrays))
    want = call(torch, *map(torch.tensor, arrays))
    if isinstance(want, torch.Tensor):
        np.testing.assert_allclose(have.numpy(), want, rtol=1e-5, atol=1e-6)
    else:
        assert have == want


def test_assertions():
    tgrad._assert(True, "no")
    with pytest.raises(AssertionError, match="a reason"):
        tgrad._assert(tgrad.zeros(1) > 0, "a reason")


def drawn(*shapes):
    return [normal(i, *shape) for i, shape in enumerate(shapes)]


# name, arrays that are differentiated, and the other arguments
POSITIONAL = [
    ("batch_norm", drawn((4, 3, 2), (3,), (3,)), (None, None, True, 0.1, 1e-5, False)),
    ("instance_norm", drawn((4, 3, 5), (3,), (3,)), (None, None, True, 0.1, 1e-3, True)),
    ("embedding", drawn((5, 3)), (np.array([[1, 4], [0, 4]]), 4)),
    ("embedding", drawn((5, 3)), (np.array([1, 4]),)),
    ("grid_sampler", drawn((2, 3, 4, 5), (2, 3, 2, 2)), (0, 0, False)),
    ("grid_sampler", drawn((2, 3, 4, 5), (2, 3, 2, 2)), (1, 2, True)),
    ("grid_sampler", drawn((2, 3, 4, 5), (2, 3, 2, 2)), (2, 1, True)),
    ("affine_grid_generator", drawn((2, 2, 3)), ([2, 1, 3, 4], True)),
    ("cosine_embedding_loss", drawn((4, 3), (4, 3)), (np.array([1, -1, 1, -1]), 0.1, 2)),
    ("kl_div", drawn((4, 3), (4, 3)), ({"log_target": True},)),
    ("kl_div", drawn((4, 3)), (np.ones((4, 3), np.float32) / 3, 0)),
    ("margin_ranking_loss", drawn((4,), (4,)), (np.ones(4, np.float32), 0.3)),
    ("triplet_margin_loss", drawn((4, 3), (4, 3), (4, 3)), (0.5, 2.0, 1e-6, True, 2)),
    ("hinge_embedding_loss", drawn((4,)), (np.array([1, -1, 1, -1]), 0.7, 0)),
    ("poisson_nll_loss", drawn((4,)), (np.ones(4, np.float32) * 2, True, True, 1e-8, 1)),
    ("binary_cross_entropy_with_logits", drawn((4, 3)),
     (np.ones((4, 3), np.float32), None, np.array([1, 2, 3], np.float32), 2)),
    ("constant_pad_nd", drawn((3, 4)), ([1, -1, 0, 2], 0.5)),
    ("ctc_loss", drawn((6, 2, 4)), (np.array([[1, 2], [3, 3]]), (6, 5), (2, 2), 0, 2)),
]  # fmt: skip


def in_both(name, arrays, rest, leaf=lambda lib, a: a):
    """Results of one function in both libraries, and gradients of its first arguments."""
    found = []
    for lib in (tgrad, torch):
        leaves = [lib.tensor(a).requires_grad_() for a in arrays]
        options = rest[-1] if rest and isinstance(rest[-1], dict) else {}
        others = [
            lib.tensor(v) if isinstance(v, np.ndarray) else v for v in rest if v is not options
        ]
        result = getattr(lib, name)(*leaf(lib, leaves), *others, **options)
        parts = result if isinstance(result, tuple) else (result,)
        sum(((y * y).sum() for y in parts), lib.zeros(())).backward()
        values = [y.detach().numpy() for y in parts]
        grads = [lib.zeros(*t.shape) if t.grad is None else t.grad for t in leaves]
        found.append([*values, *(g.numpy() for g in grads)])
    return found


@pytest.mark.parametrize(("name", "arrays", "rest"), POSITIONAL)
def test_arguments_in_the_order_of_torch(name, arrays, rest):
    for have, want in zip(*in_both(name, arrays, rest), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("mode", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_recurrent_layers(mode):
    rows = {"lstm": 16, "gru": 12}.get(mode, 4)

    def arguments(lib, leaves):
        x, h, c, *weights = leaves
        return x, ((h, c) if mode == "lstm" else h), weights

    for bias, layers, both, batch_first, projected in (
        (True, 2, True, False, 0), (False, 1, False, True, 0), (True, 1, True, True, 3),
    ):  # fmt: skip
        if projected and mode != "lstm":
            continue
        runs, size = layers * (1 + both), projected or 4
        shapes = [
            (5, 2, 3),
            (runs, 5 if batch_first else 2, size),
            (runs, 5 if batch_first else 2, 4),
        ]
        for run in range(runs):
            inputs = 3 if run < 1 + both else size * (1 + both)
            shapes += [(rows, inputs), (rows, size)] + [(rows,)] * (2 * bias)
            shapes += [(projected, 4)] * bool(projected)
        arrays = drawn(*shapes)
        rest = (bias, layers, 0.0, False, both, batch_first)
        if mode != "lstm":
            arrays.pop(2)

        def given(lib, leaves):
            c = [] if mode == "lstm" else [None]
            return arguments(lib, [*leaves[:2], *c, *leaves[2:]])

        for have, want in zip(*in_both(mode, arrays, rest, given), strict=True):
            np.testing.assert_allclose(have, want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mode", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_recurrent_cells(mode):
    rows = {"lstm": 16, "gru": 12}.get(mode, 4)
    arrays = drawn((2, 3), (2, 4), (2, 4), (rows, 3), (rows, 4), (rows,), (rows,))

    def given(lib, leaves):
        x, h, c, *weights = leaves
        return x, (h, c), *weights

    arguments = given if mode == "lstm" else lambda lib, leaves: leaves
    arrays = arrays if mode == "lstm" else [*arrays[:2], *arrays[3:]]
    for have, want in zip(*in_both(f"{mode}_cell", arrays, (), arguments), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda x: tgrad.kl_div(x, x, 3), "kl_div: reduction=3."),
        (lambda x: tgrad.kl_div(x, x, "mean"), "Use one of 0 (none), 1 (mean), 2 (sum)."),
        (lambda x: tgrad.embedding(x, x.long(), sparse=True), "embedding: sparse=True"),
        (lambda x: tgrad.grid_sampler(x, x, 5, 0, True), "interpolation_mode=5."),
        (lambda x: tgrad.gru(x, x, x, [x], True, 1, 0.0, False, False), "data with batch_sizes"),
        (
            lambda x: tgrad.gru(x[None], x, [x], True, 1, 0.0, False, False, False),
            "gru with 1 weights. Give 4: 4 for each layer and direction.",
        ),
        (
            lambda x: tgrad.gru(x[None], x, [x] * 2, False, 1, 0.0, False, False, False),
            "gru with a state of shapes (2, 3). Give 1, each (1, 2, size).",
        ),
        (lambda x: tgrad.gru_cell(x, x[0], x, x), "gru_cell of shape (2, 3) with a state of"),
    ],
)
def test_mistakes_of_what_pytorch_has_at_its_top(make, what):
    with pytest.raises(TgradError) as caught:
        make(tgrad.ones(2, 3))
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert what in " ".join(line for line in lines if not line.startswith("at "))


def test_older_names():
    w = tgrad.ones(3, requires_grad=True)
    (w * 3).sum().backward()
    with pytest.warns(FutureWarning, match="clip_grad_norm is now clip_grad_norm_"):
        tgrad.nn.utils.clip_grad_norm(w, 1.0)
    with pytest.warns(FutureWarning, match="nn.init.constant is now nn.init.constant_"):
        assert tgrad.nn.init.constant(tgrad.ones(2), 3.0).tolist() == [3, 3]
    with pytest.warns(FutureWarning, match="use NLLLoss"):
        loss = tgrad.nn.NLLLoss2d()
    x = tgrad.randn(2, 3, 4, 4)
    target = tgrad.zeros(2, 4, 4, dtype=tgrad.int64)
    assert loss(x, target).item() == tgrad.nn.NLLLoss()(x, target).item()
    assert tgrad.get_device(x) == torch.get_device(torch.ones(1)) == -1
    with tgrad.autocast("cpu"):
        assert tgrad.is_autocast_cpu_enabled()
    assert tgrad.get_autocast_cpu_dtype() is tgrad.bfloat16
    assert tgrad.get_autocast_gpu_dtype() is tgrad.float16
    assert tgrad.amp.is_autocast_available("cpu") and tgrad.amp.is_autocast_available("cuda")


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("name", ["hann", "hamming", "blackman", "bartlett", "kaiser"])
def test_windows(name, periodic):
    for count in (0, 1, 2, 7, 8):
        have = getattr(tgrad, f"{name}_window")(count, periodic, device="numpy")
        want = getattr(torch, f"{name}_window")(count, periodic)
        np.testing.assert_allclose(have.numpy(), want, atol=1e-6)


@pytest.mark.parametrize("sizes", [(3, 4, 0), (4, 2, -1), (2, 5, 2), (0, 3, 0)])
def test_triangles(sizes):
    for name in ("tril_indices", "triu_indices"):
        have, want = getattr(tgrad, name)(*sizes), getattr(torch, name)(*sizes)
        np.testing.assert_array_equal(have.numpy(), want)


def test_unravel_and_buffers():
    places = np.random.default_rng(0).integers(0, 60, (4, 2))
    have = tgrad.unravel_index(tgrad.tensor(places), (3, 4, 5))
    for ours, theirs in zip(have, torch.unravel_index(torch.tensor(places), (3, 4, 5))):
        np.testing.assert_array_equal(ours.numpy(), theirs)
    data = np.arange(6, dtype=np.int16).tobytes()
    assert tgrad.frombuffer(data, dtype=tgrad.int16, count=2, offset=4).tolist() == [2, 3]
    x = tgrad.ones(2)
    assert tgrad.asarray(x) is x and tgrad.asarray(x, copy=True) is not x


@pytest.mark.parametrize("name", ["complex32", "sparse_coo_tensor", "qint8"])
def test_what_is_out_of_scope_says_why(name):
    with pytest.raises(AttributeError, match=f"tgrad has no {name}: "):
        getattr(tgrad, name)


def test_marks_for_scripts_change_nothing():
    class Doubled(tgrad.nn.Module):
        @tgrad.jit.export
        def forward(self, x):
            return self.named(x) * 2

        @tgrad.jit.ignore
        def named(self, x):
            return x + 1

        @tgrad.jit.ignore(drop=True)
        def other(self, x): ...

    assert tgrad.jit.script(Doubled())(tgrad.ones(1)).item() == 4
    assert not tgrad.jit.is_scripting() and tgrad.jit.annotate(int, 3) == 3
    with pytest.raises(AttributeError, match=r"use tgrad\.compile"):
        _ = tgrad.jit.trace


@pytest.mark.parametrize("name", ["zeros", "ones", "empty", "rand", "randn"])
def test_sizes_by_name(name):
    assert getattr(tgrad, name)(size=(2, 3)).shape == (2, 3)
    with pytest.raises(NotImplementedError, match="size=3"):
        getattr(tgrad, name)(2, size=3)


@pytest.mark.parametrize("number", [2, 2.5])
@pytest.mark.parametrize(
    "name",
    ["add", "sub", "mul", "div", "pow", "remainder", "floor_divide", "true_divide", "xlogy",
     "float_power", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift",
     "bitwise_right_shift"],
)  # fmt: skip
def test_functions_of_a_number_and_a_tensor(name, number):
    if "bitwise" in name and number != int(number):
        return
    for kind in ("int64", "int32", "float32", "bfloat16")[: 2 if "bitwise" in name else 4]:
        have = getattr(tgrad, name)(number, tgrad.tensor([1, 2, 3], dtype=kind, device="numpy"))
        want = getattr(torch, name)(number, torch.tensor([1, 2, 3], dtype=getattr(torch, kind)))
        assert str(want.dtype) == f"torch.{have.dtype.name}"
        np.testing.assert_allclose(have.float().numpy(), want.float(), rtol=5e-3)


def test_the_type_float_is_double_precision():
    assert tgrad.zeros(1, dtype=float).dtype is tgrad.ones(1).to(float).dtype is tgrad.float64
    assert tgrad.full((1,), 2.0).dtype is tgrad.tensor([2.0]).dtype is tgrad.float32


DEFAULTS = {
    "number": lambda t: t.tensor([1.5]),
    "array": lambda t: t.tensor(np.float32(1)),
    "zeros": lambda t: t.zeros(2),
    "full": lambda t: t.full((2,), 1.0),
    "integers": lambda t: t.full((2,), 1),
    "places": lambda t: t.arange(0.0, 2),
    "normal": lambda t: t.randn(2),
    "identity": lambda t: t.eye(2),
    "window": lambda t: t.hann_window(3),
    "frequencies": lambda t: t.fft.fftfreq(3),
    "constructor": lambda t: t.Tensor([1]),
    "quotient": lambda t: t.arange(3) / 2,
    "sum": lambda t: t.arange(3) + 1.5,
    "root": lambda t: t.arange(3).sqrt(),
    "gamma": lambda t: t.polygamma(1, t.arange(3)),
    "angle": lambda t: t.atan2(t.arange(3), t.arange(3)),
    "chosen": lambda t: t.where(t.arange(3) > 1, 1.0, 0.0),
    "single": lambda t: t.arange(3).float(),
    "weights": lambda t: t.nn.Linear(2, 2).weight,
    "statistics": lambda t: t.nn.BatchNorm1d(2).running_mean,
    "mask": lambda t: t.nn.Transformer.generate_square_subsequent_mask(3),
}


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("kind", ["float64", "float16"])
def test_default_dtype(name, kind):
    found = []
    for library in (tgrad, torch):
        library.set_default_dtype(getattr(library, kind))
        try:
            assert library.get_default_dtype() is getattr(library, kind)
            found.append(str(DEFAULTS[name](library).dtype).rpartition(".")[2])
        finally:
            library.set_default_dtype(library.float32)
    assert found[0] == found[1]


def test_other_default_dtypes():
    with pytest.raises(TypeError):
        tgrad.set_default_dtype(tgrad.int64)
    with pytest.raises(NotImplementedError):
        tgrad.set_default_tensor_type("torch.LongTensor")
    scaled = tgrad.compile(lambda x: x + 0.5)
    try:
        for name, kind in (("torch.DoubleTensor", "float64"), ("FloatTensor", "float32")):
            tgrad.set_default_tensor_type(name)
            assert tgrad.finfo().dtype == kind
            assert scaled(tgrad.tensor([1, 2], device="numpy")).dtype.name == kind
    finally:
        tgrad.set_default_dtype(tgrad.float32)


PLACES = """
distributions.kl: register_kl kl_divergence
distributions.relaxed_bernoulli: LogitRelaxedBernoulli
nn.modules.utils: _single _pair _triple _quadruple _ntuple
nn.modules.conv: Conv2d _ConvNd _ConvTransposeNd
nn.modules.loss: CrossEntropyLoss _Loss _WeightedLoss
nn.modules.dropout: Dropout2d _DropoutNd
nn.modules.batchnorm: _BatchNorm
nn.modules.rnn: RNNBase LSTM GRUCell
nn.modules.sparse: Embedding
nn.modules.upsampling: Upsample
nn.modules.flatten: Flatten
nn.modules.pixelshuffle: PixelShuffle
nn.modules: Module Linear ReLU
nn.common_types: _size_1_t _size_2_t _size_any_t
nn.init: _calculate_fan_in_and_fan_out
nn.utils.stateless: functional_call
optim.adamw: AdamW
optim.rmsprop: RMSprop
optim.optimizer: Optimizer required
autograd.gradcheck: gradcheck
autograd.grad_mode: no_grad
utils.data.dataset: Dataset TensorDataset
utils.data.sampler: Sampler SubsetRandomSampler
utils.data.dataloader: DataLoader default_collate
utils.hooks: RemovableHandle
utils.dlpack: from_dlpack to_dlpack
utils.checkpoint: checkpoint noop_context_fn set_checkpoint_early_stop
utils.data: default_convert
utils.benchmark: Timer Measurement Compare
utils._pytree: tree_map tree_flatten tree_unflatten tree_leaves tree_map_only register_pytree_node
accelerator: is_available current_accelerator synchronize
amp.grad_scaler: GradScaler
cpu.amp: autocast
multiprocessing: spawn Process Queue get_context set_start_method cpu_count
types: Number Device _size _dtype _device Tensor
nn.utils: convert_conv2d_weight_memory_format convert_conv3d_weight_memory_format
compiler: compile allow_in_graph is_dynamo_compiling is_exporting cudagraph_mark_step_begin reset
amp.autocast_mode: autocast
cuda.amp.grad_scaler: GradScaler
autograd.anomaly_mode: detect_anomaly set_detect_anomaly
autograd.variable: Variable
backends.mkldnn: is_available
backends.cuda: enable_flash_sdp sdp_kernel
_utils: _flatten_dense_tensors _unflatten_dense_tensors
nn.modules.module: _addindent
nn.modules.linear: NonDynamicallyQuantizableLinear
nn.modules.normalization: _shape_t
nn.modules.transformer: _get_clones
nn.modules.activation: MultiheadAttention
optim.optimizer: ParamsT
utils.data._utils.collate: default_collate
serialization: add_safe_globals safe_globals
onnx: is_in_onnx_export
jit: ScriptModule fork wait freeze optimize_for_inference
_dynamo: config disable reset
fx: wrap GraphModule Proxy
mps: is_available
overrides: has_torch_function
distributed.fsdp: FullyShardedDataParallel
distributed.elastic.multiprocessing.errors: record
utils.model_zoo: load_url
cuda.memory: memory_allocated
cuda.streams: Stream
storage: UntypedStorage
nn.parallel: DataParallel DistributedDataParallel data_parallel
"""


def test_modules_of_distributions_are_pytorchs():
    """Each has the public names, as an import and as an attribute."""
    for module in pkgutil.iter_modules(torch.distributions.__path__):
        theirs = importlib.import_module(f"torch.distributions.{module.name}")
        ours = importlib.import_module(f"tgrad.distributions.{module.name}")
        assert not [name for name in theirs.__all__ if not hasattr(ours, name)], module.name
        assert getattr(tgrad.distributions, module.name) is ours
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = tgrad.distributions.absent


def test_parameters_of_distributions():
    values = normal(0, 3, 4, 4)
    pairs = []
    for t in (tgrad, torch):
        u = importlib.import_module(f"{t.__name__}.distributions.utils")
        x = t.tensor(values) if t is torch else t.tensor(values, device="numpy")
        found = [*u.broadcast_all(x[0], 2.0, x[:1]), u.clamp_probs(x.abs()), u._sum_rightmost(x, 2)]
        for binary in (False, True):
            probs = u.logits_to_probs(x, is_binary=binary)
            found += [probs, u.probs_to_logits(probs, is_binary=binary)]
        for diag in range(-2, 3):
            lower = u.tril_matrix_to_vec(x, diag)
            found += [lower, u.vec_to_tril_matrix(lower, diag)]
        with pytest.raises(ValueError):
            u.tril_matrix_to_vec(x, 4)
        with pytest.raises((ValueError, RuntimeError)):
            u.vec_to_tril_matrix(x[0])
        assert u._standard_normal((2, 3), dtype=x.dtype, device=x.device).shape == (2, 3)
        pairs.append(found)
    for ours, theirs in zip(*pairs, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5, atol=1e-6)
    assert tgrad.distributions.utils.broadcast_all(1, 2.0)[0].dtype is tgrad.float32


@pytest.mark.parametrize("line", PLACES.split("\n")[1:-1])
def test_import_lines(line):
    place, names = line.split(": ")
    for library in ("torch", "tgrad"):
        found = {}
        exec(f"from {library}.{place} import {', '.join(names.split())}", found)
    assert not set(names.split()) - found.keys()
    with pytest.raises(ImportError):
        exec(f"from tgrad.{place} import absent")


def test_absent_names_say_what_to_use():
    with pytest.raises(
        AttributeError, match=r"has no set_sharing_strategy: processes do not share"
    ):
        _ = tgrad.multiprocessing.set_sharing_strategy


def test_absent_modules_can_be_imported():
    import tgrad.distributed.fsdp
    import tgrad.fx
    import tgrad.onnx

    assert not tgrad.onnx.is_in_onnx_export() and not tgrad.mps.is_available()
    assert not isinstance(3, tgrad.fx.Proxy) and tgrad.fx.wrap(len) is len
    assert not hasattr(tgrad.sparse, "mm") and not tgrad.overrides.has_torch_function((1,))
    with pytest.raises(AttributeError, match=r"tgrad has no export\.export: models are not"):
        _ = tgrad.export.export
    with pytest.raises(ImportError, match=r"no fx\.symbolic_trace: Python is not traced"):
        exec("from tgrad.fx import symbolic_trace")
    with pytest.raises(TgradError, match="FullyShardedDataParallel is not there") as caught:
        tgrad.distributed.fsdp.FullyShardedDataParallel(tgrad.nn.Linear(1, 1))
    assert "Parameters are not divided" in caught.value.hint


def test_switches_of_other_compilers_change_nothing():
    import tgrad._dynamo
    import tgrad._inductor.config

    with pytest.warns(UserWarning, match=r"_dynamo\.config\.suppress_errors changes nothing"):
        tgrad._dynamo.config.suppress_errors = True
    with pytest.warns(UserWarning, match=r"config\.triton\.unique_kernel_names changes nothing"):
        tgrad._inductor.config.triton.unique_kernel_names = True
    assert tgrad._dynamo.config.suppress_errors is True
    assert tgrad._dynamo.disable is tgrad.compiler.disable
    assert tgrad._dynamo.mark_dynamic(tgrad.ones(2), 0) is None
    with pytest.raises(AttributeError, match=r"_dynamo has no explain: tgrad\.compile traces"):
        _ = tgrad._dynamo.explain


def test_symbolic_numbers():
    for t in (tgrad, torch):
        found = (
            t.sym_int(-2.7),
            t.sym_max(2, 3.0),
            t.sym_min(2, 3),
            t.sym_not(1 > 2),
            t.sym_float(3),
        )
        assert found == (-2, 3.0, 2, True, 3.0) and t.sym_sum([1, 2]) == 3
        assert t.sym_ite(True, 1, 2) == 1 and not isinstance(3, t.SymInt)
    assert tgrad.sym_sqrt(4) == 2.0 and isinstance(tgrad.ones(1).storage(), tgrad.TypedStorage)


def test_capsules():
    x = tgrad.arange(4)
    assert tgrad.utils.dlpack.to_dlpack is tgrad.to_dlpack
    assert torch.utils.dlpack.from_dlpack(tgrad.to_dlpack(x)).tolist() == [0, 1, 2, 3]


def _square(index, values, queue):
    queue.put((index, (values**2).sum().item()))


def test_spawned_processes_get_copies():
    context = tgrad.multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    tgrad.multiprocessing.spawn(_square, (tgrad.arange(3.0, device="numpy"), queue), nprocs=2)
    assert sorted(queue.get() for _ in range(2)) == [(0, 5.0), (1, 5.0)]


def test_modules_are_there_without_an_import_of_their_own():
    """In a new process: other tests import some of them."""
    named = ", ".join(f"tgrad.nn.{n}" for n in ("common_types", "modules.conv", "modules.utils"))
    subprocess.run([sys.executable, "-c", f"import tgrad; {named}"], check=True)


def test_private_names_of_layers():
    assert tgrad.nn.modules.utils._pair(3) == (3, 3) and tgrad.nn.modules.utils._triple([1]) == (1,)
    for layer in (tgrad.nn.Conv1d(1, 1, 1), tgrad.nn.ConvTranspose3d(1, 1, 1)):
        assert isinstance(layer, tgrad.nn.modules.conv._ConvNd)
    assert isinstance(tgrad.nn.AlphaDropout(), tgrad.nn.modules.dropout._DropoutNd)

    class Weighted(tgrad.nn.modules.loss._WeightedLoss):
        def forward(self, x):
            return (x * self.weight).sum() if self.reduction == "sum" else x

    loss = Weighted(tgrad.ones(2) * 3, reduction="sum")
    assert loss(tgrad.ones(2)).item() == 6 and list(loss.state_dict()) == ["weight"]
    with pytest.raises(NotImplementedError, match="size_average"):
        tgrad.nn.modules.loss._Loss(size_average=True)


@pytest.mark.parametrize(
    ("call", "shapes"),
    [
        (lambda t, x, y: t.einsum(x, [0, 1], y, [1, 2], [0, 2]), [(2, 3), (3, 4)]),
        (lambda t, x, y: t.einsum(x, [0, 1], y, [1, 2]), [(2, 3), (3, 4)]),
        (lambda t, x, y: t.einsum(x, [..., 0, 1], y, [1, 30], [..., 30, 0]), [(5, 2, 3), (3, 4)]),
    ],
)
def test_einsum_with_lists_of_axes(call, shapes):
    arrays = [normal(i, *shape) for i, shape in enumerate(shapes)]
    have = call(tgrad, *(tgrad.tensor(a, device="numpy") for a in arrays))
    np.testing.assert_allclose(have.numpy(), call(torch, *map(torch.tensor, arrays)), rtol=1e-4)


def test_new_of_older_programs():
    x = tgrad.ones(2, dtype=tgrad.float64, device="numpy")
    for made, shape in ((x.new(2, 3), (2, 3)), (x.new([2, 3]), (2,)), (x.new(), (0,))):
        assert (made.shape, made.dtype, made.device) == (shape, x.dtype, x.device)
    with pytest.raises(NotImplementedError, match="new_empty"):
        x.new((2, 3))
