"""`set_default_device`, `tgrad.cuda`, `tgrad.backends`: what scripts say before they start."""

from __future__ import annotations

import copy
import pickle
import sys
import warnings
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import tgrad
from tgrad import nn
from tgrad.errors import DeviceError, TraceError, UnsupportedError


def test_tensors_are_made_on_the_default_device() -> None:
    assert tgrad.get_default_device() == tgrad.device("cpu")
    tgrad.set_default_device("interpret")
    try:
        assert nn.Linear(2, 2).weight.device.type == "interpret"
        with tgrad.device("numpy") as inner:
            made = (tgrad.ones(1), tgrad.tensor([1]), tgrad.arange(2), tgrad.rand(1), tgrad.eye(2))
            assert {t.device for t in made} == {inner} == {tgrad.get_default_device()}
            assert tgrad.ones(1, device="cpu").device.type == "cpu"
        assert tgrad.zeros(1).device.type == "interpret"
    finally:
        tgrad.set_default_device(None)
    assert tgrad.zeros(1).device.type == "cpu"


def test_compiled_functions_follow_the_default_device() -> None:
    make = tgrad.compile(lambda: tgrad.ones(2) * 2)
    assert make().device.type == "cpu"
    with tgrad.device("numpy"):
        assert make().device.type == "numpy"
    assert make().tolist() == [2.0, 2.0]


def test_equal_names_are_one_device() -> None:
    one = tgrad.device("cuda:1")
    assert tgrad.device("cuda", 1) is one is not tgrad.device("cuda")
    assert pickle.loads(pickle.dumps(one)) is copy.deepcopy(one) is one


def test_names_of_devices() -> None:
    one = tgrad.device("cuda:1")
    assert (one.type, one.index, str(one)) == ("cuda", 1, "cuda:1")
    assert tgrad.device("cuda", 1) == one and tgrad.device("cuda:0") == tgrad.device("cuda")
    for name in ("gpu", "cuda:x"):
        with pytest.raises(DeviceError, match=f"'{name}' is not a device"):
            tgrad.device(name)
        with pytest.raises(DeviceError, match=f"'{name}' is not a device"):
            tgrad.set_default_device(name)


def test_gpus_are_those_that_torch_sees() -> None:
    torch = pytest.importorskip("torch")
    assert tgrad.cuda.is_available() == torch.cuda.is_available()
    assert tgrad.cuda.device_count() == torch.cuda.device_count()
    assert tgrad.cuda.memory_allocated() == torch.cuda.memory_allocated()
    assert tgrad.cuda.is_initialized() == torch.cuda.is_initialized()


def test_the_older_decorators_of_functions_under_autocast() -> None:
    class Double(tgrad.autograd.Function):
        @staticmethod
        @tgrad.cuda.amp.custom_fwd(cast_inputs=tgrad.float32)
        def forward(ctx, x):
            assert not tgrad.is_autocast_enabled("cuda")
            return x * 2

        @staticmethod
        @tgrad.cuda.amp.custom_bwd
        def backward(ctx, g):
            assert not tgrad.is_autocast_enabled("cuda")
            return g * 2

    x = tgrad.ones(1, requires_grad=True)
    with tgrad.cuda.amp.autocast():
        y = Double.apply(x)
    y.sum().backward()
    assert (y.item(), x.grad.item()) == (2.0, 2.0)
    tgrad.cuda.manual_seed_all(3)
    first = tgrad.rand(2).tolist()
    tgrad.manual_seed(3)
    assert tgrad.rand(2).tolist() == first
    with pytest.raises(AttributeError, match="no ExternalStream: plans run one after the other"):
        tgrad.cuda.ExternalStream  # noqa: B018


def test_streams_are_the_current_one(monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    here, other = SimpleNamespace(device="cuda:0", id=0), SimpleNamespace(device="cuda:0", id=1)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: here)
    with pytest.warns(UserWarning, match="plans run one after the other, on the current stream"):
        assert tgrad.cuda.Stream() is here
    with tgrad.cuda.stream(here), tgrad.cuda.stream(None):
        tgrad.cuda.set_stream(here)
    with (
        pytest.raises(UnsupportedError, match="that is not the current one"),
        tgrad.cuda.stream(other),
    ):
        pass


def test_streams_need_a_gpu() -> None:
    if not tgrad.cuda.is_available():
        with (
            pytest.warns(UserWarning, match="changes nothing"),
            pytest.raises(DeviceError, match="without a GPU"),
        ):
            tgrad.cuda.Stream()


def test_the_name_cuda_means_the_gpu_that_was_chosen(monkeypatch) -> None:
    chosen = []
    monkeypatch.setattr(tgrad.cuda, "is_available", lambda: True)
    fake = SimpleNamespace(set_device=chosen.append)
    monkeypatch.setattr(tgrad.cuda, "_torch", lambda: fake)
    assert tgrad.cuda.current_device() == 0
    with tgrad.cuda.device("cuda:2"):
        assert tgrad.cuda.current_device() == 2 and str(tgrad.device("cuda")) == "cuda:2"
        tgrad.cuda.set_device(3)
        tgrad.set_default_device("cuda")
        tgrad.cuda.set_device(1)  # the default device moves along
        assert str(tgrad.get_default_device()) == "cuda:1"
        tgrad.set_default_device(None)
    assert chosen == [2, 3, 1, 0] and str(tgrad.device("cuda")) == "cuda:0"
    with pytest.raises(DeviceError, match="it is no GPU"):
        tgrad.cuda.set_device("cpu")


def test_random_states_of_gpus_are_that_of_the_one_generator() -> None:
    for seed in (tgrad.cuda.manual_seed_all, tgrad.manual_seed):
        seed(5)
        assert tgrad.cuda.initial_seed() == 5 == tgrad.initial_seed()
    tgrad.rand(3).realize()
    states = tgrad.cuda.get_rng_state(), tgrad.get_rng_state()
    first = tgrad.rand(4).tolist()
    for put_back, state in zip((tgrad.cuda.set_rng_state, tgrad.set_rng_state), states):
        put_back(state)
        assert tgrad.rand(4).tolist() == first
    tgrad.cuda.set_rng_state_all([states[0]])
    assert tgrad.rand(4).tolist() == first
    tgrad.cuda.set_rng_state_all(tgrad.cuda.get_rng_state_all())
    assert tgrad.cuda.seed() == tgrad.initial_seed()


def test_every_name_of_cuda_is_there() -> None:
    torch = pytest.importorskip("torch")
    for name in tgrad.cuda.__all__:
        assert getattr(tgrad.cuda, name) is not None and hasattr(torch.cuda, name), name
    assert tgrad.cuda.Event is torch.cuda.Event
    assert tgrad.cuda.OutOfMemoryError is tgrad.OutOfMemoryError
    assert set(dir(torch.cuda)) >= set(tgrad.cuda._ABSENT)


@pytest.mark.skipif(not tgrad.cuda.is_available(), reason="needs a GPU")
def test_events_of_cuda_time_what_was_launched() -> None:
    begin, end = (tgrad.cuda.Event(enable_timing=True) for _ in range(2))
    x = tgrad.ones(2048, 2048, device="cuda")
    (x @ x).realize()
    begin.record()
    (x @ (x + 1)).realize()
    end.record()
    end.synchronize()
    assert begin.elapsed_time(end) > 0


def test_amp_of_cuda() -> None:
    from tgrad.cuda.amp import GradScaler, autocast

    with autocast(dtype=tgrad.bfloat16):
        assert tgrad.get_autocast_dtype("cuda") is tgrad.bfloat16
        assert not tgrad.is_autocast_enabled("cpu")
    assert not GradScaler(enabled=False).is_enabled()


def test_tf32_is_one_choice() -> None:
    import tgrad.backends.cudnn as cudnn

    tgrad.backends.cuda.matmul.allow_tf32 = True
    assert cudnn.allow_tf32 and tgrad.get_float32_matmul_precision() == "high"
    cudnn.allow_tf32 = False
    assert not tgrad.backends.cuda.matmul.allow_tf32
    assert tgrad.get_float32_matmul_precision() == "highest"


def test_what_cudnn_alone_would_follow_says_so() -> None:
    import tgrad.backends.cudnn as cudnn

    with pytest.warns(UserWarning, match="changes nothing"):
        cudnn.benchmark = True
    assert cudnn.benchmark is False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cudnn.deterministic = True
    assert not cudnn.is_available() and not tgrad.backends.mps.is_available()


def test_constructors_of_gpus() -> None:
    make = tgrad.cuda.LongTensor
    assert (make.dtype, make.place) == (tgrad.int64, "cuda")
    assert make([1, 2], device="cpu").tolist() == [1, 2]
    with pytest.raises(AttributeError):
        _ = tgrad.cuda.StrangeTensor


def test_the_cpu_and_the_accelerator() -> None:
    torch = pytest.importorskip("torch")
    for name in ("is_available", "device_count", "current_device", "is_initialized", "synchronize"):
        assert getattr(tgrad.cpu, name)() == getattr(torch.cpu, name)()
    tgrad.cpu.set_device("cpu")
    with pytest.raises(DeviceError, match="set_default_device"):
        tgrad.cpu.set_device("cuda")
    with tgrad.cpu.amp.autocast():
        assert tgrad.get_autocast_dtype("cpu") is tgrad.bfloat16
        assert tgrad.is_autocast_enabled("cpu")
    assert tgrad.cpu.amp.GradScaler(enabled=False).get_scale() == 1.0
    found = tgrad.accelerator.current_accelerator()
    assert (found is None) == (torch.cuda.device_count() == 0)
    assert tgrad.accelerator.device_count() == torch.cuda.device_count()
    assert tgrad.accelerator.is_available() == tgrad.cuda.is_available()
    assert tgrad.accelerator.memory_allocated is torch.cuda.memory_allocated
    with pytest.raises(AttributeError):
        _ = tgrad.accelerator.absent
    assert isinstance(3, tgrad.types.Number) and isinstance(None, tgrad.types.Device)


def test_functions_of_the_compiler() -> None:
    assert tgrad.compiler.compile(lambda x: x + 1)(tgrad.ones(1)).item() == 2
    assert tgrad.compiler.allow_in_graph(len) is len and not tgrad.compiler.is_exporting()
    for call in (tgrad.compiler.reset, tgrad.compiler.cudagraph_mark_step_begin):
        assert call() is None
    assert not tgrad.compiler.is_dynamo_compiling()


def test_what_is_torchs_own_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    for name in tgrad.distributed._OF_TORCH:
        assert getattr(tgrad.distributed, name) is getattr(torch.distributed, name)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert tgrad.distributed.get_node_local_rank() == 3
    with pytest.raises(AttributeError):
        _ = tgrad.distributed.absent


def test_values_for_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tensorboard: its writer is one that keeps what it gets."""
    seen: list[object] = []

    class Writer:
        def add_scalar(self, tag: str, value: object, step: int | None = None) -> None:
            seen.append((tag, value, step))

        def add_scalars(self, tag: str, values: dict[str, object]) -> None:
            seen.append(values)

    fake = ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    monkeypatch.setattr(sys.modules["torch.utils"], "tensorboard", fake, raising=False)
    tgrad.utils.tensorboard._writer.cache_clear()
    writer = tgrad.utils.tensorboard.SummaryWriter()
    writer.add_scalar("loss", tgrad.tensor(2.0, requires_grad=True) * 2, step=3)
    writer.add_scalars("all", {"a": tgrad.tensor(1.0), "b": 5})
    assert seen[0] == ("loss", 4.0, 3) and type(seen[0][1]) is np.ndarray  # type: ignore[index]
    assert seen[1] == {"a": 1.0, "b": 5}
    tgrad.utils.tensorboard._writer.cache_clear()


def test_choices_of_cuda_that_are_fixed() -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = tgrad.backends.cuda, torch.backends.cuda
    for name in ("flash", "mem_efficient", "math", "cudnn"):
        assert isinstance(getattr(theirs, f"{name}_sdp_enabled")(), bool)
        choose, is_chosen = (getattr(ours, f(name)) for f in ("enable_{}_sdp".format,
                                                              "{}_sdp_enabled".format))  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            choose(name != "cudnn")
        with pytest.warns(UserWarning, match=f"cuda.enable_{name}_sdp = {name == 'cudnn'} changes"):
            choose(name == "cudnn")
        assert is_chosen() is (name != "cudnn")
    q = tgrad.ones(1, 2, 4)
    with ours.sdp_kernel(enable_flash=False), tgrad.backends.cudnn.flags(enabled=False):
        assert nn.functional.scaled_dot_product_attention(q, q, q).shape == (1, 2, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.matmul.allow_fp16_reduced_precision_reduction = False
    with pytest.warns(UserWarning, match="allow_fp16_reduced_precision_reduction = True changes"):
        ours.matmul.allow_fp16_reduced_precision_reduction = True
    assert ours.matmul.allow_fp16_reduced_precision_reduction is False
    for name in ("read", "write"):
        with pytest.raises(AttributeError, match="no 'allow_fun'"):
            ours.matmul.allow_fun if name == "read" else setattr(ours.matmul, "allow_fun", 1)
    ours.matmul.fp32_precision = "tf32"
    assert tgrad.get_float32_matmul_precision() == "high" and ours.matmul.fp32_precision == "tf32"
    ours.matmul.fp32_precision = "ieee"
    assert tgrad.get_float32_matmul_precision() == "highest"
    with pytest.raises(UnsupportedError, match=r"fp32_precision='tf64'"):
        ours.matmul.fp32_precision = "tf64"
    assert not tgrad.backends.mkldnn.is_available() and not tgrad.backends.opt_einsum.enabled


def test_places_of_classes() -> None:
    torch = pytest.importorskip("torch")
    from tgrad.distributions.kl import kl_divergence
    from tgrad.optim.lr_scheduler import LRScheduler, _LRScheduler

    assert kl_divergence is tgrad.distributions.kl_divergence and _LRScheduler is LRScheduler
    assert nn.modules.module.Module is nn.Module and nn.modules.conv.Conv2d is nn.Conv2d
    seen = []
    for library in (tgrad, torch):
        modules = library.nn.modules
        norms = (library.nn.BatchNorm1d(2), library.nn.InstanceNorm1d(2), library.nn.LayerNorm(2))
        kinds = modules.batchnorm._BatchNorm, modules.instancenorm._InstanceNorm
        seen.append([[isinstance(norm, kind) for norm in norms] for kind in kinds])
    assert seen[0] == seen[1] == [[True, False, False], [False, True, False]]


def test_questions_about_compiling_and_processes() -> None:
    assert not tgrad.distributed.is_initialized()

    @tgrad.compiler.disable(reason="it reads files")
    def read(x: tgrad.Tensor) -> tgrad.Tensor:
        return x * 2

    def traced(x: tgrad.Tensor) -> tgrad.Tensor:
        return x + 1 if tgrad.compiler.is_compiling() else x

    x = tgrad.ones(1)
    assert read(x).item() == 2 and traced(x).item() == 1
    assert tgrad.compile(traced)(x).item() == 2
    with pytest.raises(TraceError, match=r"which compiler.disable marks \(it reads files\)"):
        tgrad.compile(lambda x: read(x))(x)


def test_default_types_of_devices_and_the_only_layout() -> None:
    tgrad.set_default_tensor_type(tgrad.FloatTensor)
    tgrad.set_default_tensor_type("torch.FloatTensor")
    with pytest.raises(UnsupportedError, match="set_default_tensor_type"):
        tgrad.set_default_tensor_type("torch.cuda.FloatTensor")
    assert tgrad.ones(1).layout == tgrad.strided
