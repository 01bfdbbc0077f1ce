"""Modules of PyTorch that tgrad does not have, which programs import all the same.

In: a table. Out: modules whose names say why they are not there and what to use, with those few
that answer no or change nothing. Invariant: nothing here computes; what would be different raises.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from dis import opmap
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from tgrad.errors import UnsupportedError

_IMPORT_FROM = opmap["IMPORT_FROM"]


@dataclass(frozen=True)
class Absent:
    """A module that is not there.

    Attributes:
        reason: why, and what to use.
        names: what programs name though they do not need the rest.
    """

    reason: str
    names: Mapping[str, Any] = field(default_factory=dict)


class AbsentModule(ModuleType):
    """A module whose names raise, but for those few."""

    def __init__(self, name: str, absent: Absent):
        super().__init__(name, f"PyTorch's module of that name is not there: {absent.reason}")
        self.__spec__ = ModuleSpec(name, None, origin="tgrad.absent")
        self.__dict__.update(absent.names)
        self.__dict__["_reason"] = absent.reason

    def __getattr__(self, name: str) -> Any:
        here = self.__name__
        below = None if name.startswith("__") else sys.modules.get(f"{here}.{name}")
        if below is not None:
            return below
        what = f"tgrad has no {here.removeprefix('tgrad.')}.{name}: {self.__dict__['_reason']}"
        frame = sys._getframe(1)
        if frame.f_code.co_code[frame.f_lasti] == _IMPORT_FROM:  # which would hide the reason
            raise ImportError(what, name=here)
        raise AttributeError(what)


def nobody(name: str, reason: str) -> type:
    """A class with no instances, for `isinstance`: to make one raises UnsupportedError."""

    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        raise UnsupportedError(f"{name} is not there.", f"{reason[0].upper()}{reason[1:]}")

    return type(name, (), {"__init__": refuse, "__doc__": f"No object is one: {reason}"})


def _no(*args: Any, **kwargs: Any) -> bool:
    """No."""
    return False


def _none(*args: Any, **kwargs: Any) -> int:
    """0: there is none."""
    return 0


def _same(given: Any) -> Any:
    """What is given."""
    return given


_QUANTIZED = "there are no quantized dtypes; integers and .to(dtype) compute the same."
_FX = "Python is not traced to a graph of modules; tgrad.compile makes plans."
_SHARDED = "parameters are not divided among processes; use nn.parallel.DistributedDataParallel."
_DTENSOR = "tensors are not divided among processes; use the collectives of tgrad.distributed."
_EXPORT = "models are not exported; load the state_dict into PyTorch's model and export that."
_DEVICES = "tgrad computes on cuda, cpu and opencl."
_OPERATORS = "operators are not registered; write an autograd.Function, or tgrad.vmap's rules."

ABSENT = {
    "onnx": Absent(_EXPORT, {"is_in_onnx_export": _no}),
    "export": Absent(_EXPORT),
    "package": Absent("use tgrad.save of a state_dict."),
    "fx": Absent(_FX, {"wrap": _same, **{n: nobody(n, _FX) for n in ("GraphModule", "Proxy")}}),
    "sparse": Absent("tensors are dense."),
    "nested": Absent("tensors are rectangular; pad them.", {"is_nested": _no}),
    **dict.fromkeys(
        ("quantization", "ao", "ao.quantization", "nn.quantized", "nn.qat", "nn.intrinsic"),
        Absent(_QUANTIZED),
    ),
    **dict.fromkeys(
        ("mps", "xpu", "mtia"), Absent(_DEVICES, {"is_available": _no, "device_count": _none})
    ),
    "library": Absent(_OPERATORS),
    "overrides": Absent(
        "functions of tgrad do not look for __torch_function__; those of torch do.",
        {f"has_torch_function{n}": _no for n in ("", "_unary", "_variadic")},
    ),
    "futures": Absent("work is done when its values are asked for."),
    "monitor": Absent("use tgrad.profiler."),
    "autograd.forward_ad": Absent("use tgrad.func.jvp."),
    "utils.collect_env": Absent("`tgrad doctor` says what is installed."),
    "utils.data.datapipes": Absent("use IterableDataset."),
    "utils.data.datapipes.iter": Absent("use IterableDataset."),
    "utils.cpp_extension": Absent("kernels are generated; write functions of tensors."),
    "utils._python_dispatch": Absent(_OPERATORS),
    "utils.weak": Absent("use weakref; tensors are told apart by identity."),
    "utils.flop_counter": Absent("`tgrad explain` and tgrad.explain say the FLOPs of a plan."),
    "utils.mobile_optimizer": Absent(_EXPORT),
    "distributed.fsdp": Absent(
        _SHARDED,
        {n: nobody(n, _SHARDED) for n in ("FSDPModule", "FullyShardedDataParallel")},
    ),
    **dict.fromkeys(
        ("distributed.fsdp.wrap", "distributed._composable", "distributed._composable.fsdp"),
        Absent(_SHARDED),
    ),
    **dict.fromkeys(
        ("distributed.tensor", "distributed._tensor"),
        Absent(_DTENSOR, {"DTensor": nobody("DTensor", _DTENSOR)}),
    ),
    **dict.fromkeys(
        ("distributed.algorithms", "distributed.algorithms.ddp_comm_hooks"),
        Absent("DistributedDataParallel exchanges gradients as they are."),
    ),
    "distributed.device_mesh": Absent(_DTENSOR, {"DeviceMesh": nobody("DeviceMesh", _DTENSOR)}),
    **dict.fromkeys(
        ("distributed.checkpoint", "distributed.checkpoint.state_dict"),
        Absent(f"{_SHARDED} Save its state_dict on one process."),
    ),
    "distributed.pipelining": Absent(_SHARDED),
    "distributed.optim": Absent(_SHARDED),
    "distributed.rpc": Absent("processes exchange tensors by the collectives."),
    "distributed.elastic": Absent("start processes by torchrun."),
    "distributed.elastic.multiprocessing": Absent("start processes by torchrun."),
    "distributed.elastic.multiprocessing.errors": Absent(
        "start processes by torchrun.", {"record": _same}
    ),
}
"""By the path below PyTorch's."""


def register() -> None:
    """Let import lines find them."""
    for name, absent in ABSENT.items():
        sys.modules.setdefault(f"tgrad.{name}", AbsentModule(f"tgrad.{name}", absent))
