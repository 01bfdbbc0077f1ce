"""Modules of PyTorch that tgrad has no file for: import lines name them, the names are elsewhere.

In: a table of paths. Out: entries of `sys.modules`, which look names up where they are. Invariant:
nothing is imported before a name is asked for, and nothing is defined here.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from tgrad import absent, switches

_LAYERS = (
    "channelshuffle", "flatten", "fold", "pixelshuffle", "rnn", "sparse", "upsampling",
)  # fmt: skip
_OPTIMIZERS = ("adadelta", "adagrad", "adamax", "adamw", "nadam", "radam", "rmsprop")
_DISTRIBUTIONS = (
    "bernoulli", "beta", "binomial", "categorical", "cauchy", "chi2", "continuous_bernoulli",
    "dirichlet", "exponential", "fishersnedecor", "gamma", "generalized_pareto", "geometric",
    "gumbel", "half_cauchy", "half_normal", "independent", "inverse_gamma", "kumaraswamy",
    "laplace", "lkj_cholesky", "log_normal", "logistic_normal", "lowrank_multivariate_normal",
    "mixture_same_family", "multinomial", "multivariate_normal", "negative_binomial", "normal",
    "one_hot_categorical", "pareto", "poisson", "studentT", "transformed_distribution", "uniform",
    "von_mises", "weibull", "wishart",
)  # fmt: skip
_RELAXED = ("relaxed_bernoulli", "relaxed_categorical")
_UNUSED = ("mkl", "mkldnn", "openmp", "opt_einsum")
_OF_DATA = ("dataloader", "dataset", "distributed", "sampler")

PATHS = {
    **{f"tgrad.nn.modules.{name}": "tgrad.nn" for name in _LAYERS},
    **{f"tgrad.optim.{name}": "tgrad.optim" for name in _OPTIMIZERS},
    **{f"tgrad.distributions.{name}": "tgrad.distributions" for name in _DISTRIBUTIONS},
    **{f"tgrad.distributions.{name}": "tgrad.distributions.relaxed" for name in _RELAXED},
    "tgrad.distributions.utils": "tgrad.distributions.parameters",
    **{f"tgrad.utils.data.{name}": "tgrad.utils.data" for name in _OF_DATA},
    "tgrad.autograd.gradcheck": "tgrad.autograd.finite_differences",
    "tgrad.autograd.profiler": "tgrad.profiler",
    "tgrad.autograd.grad_mode": "tgrad.grad_mode",
    "tgrad.nn.utils.stateless": "tgrad.func",
    **{f"tgrad.backends.{name}": "tgrad.backends.absent" for name in _UNUSED},
    **{f"tgrad.{place}.grad_scaler": "tgrad.amp" for place in ("amp", "cuda.amp")},
    **{f"tgrad.{place}.autocast_mode": "tgrad.amp" for place in ("amp", "cuda.amp")},
    "tgrad.autograd.anomaly_mode": "tgrad.autograd",
    "tgrad.autograd.variable": "tgrad.autograd",
    "tgrad.utils.dlpack": "tgrad.methods.interchange",
    "tgrad.utils.hooks": "tgrad.hooks",
    "tgrad.utils.model_zoo": "tgrad.hub",
    **{f"tgrad.cuda.{name}": "tgrad.cuda" for name in ("memory", "random")},
    "tgrad.storage": "tgrad.methods.memory",
    "tgrad.cuda.nvtx": "torch.cuda.nvtx",
    "tgrad.distributed.distributed_c10d": "tgrad.distributed",
    "tgrad.optim._multi_tensor": "tgrad.optim",
    **{f"tgrad.utils.data._utils{n}": "tgrad.utils.data" for n in ("", ".collate")},
}
"""A path of PyTorch's, with its name for tgrad's, and the module that has the names."""


class _Elsewhere(ModuleType):
    """A module whose names are those of another one."""

    def __init__(self, name: str, place: str):
        super().__init__(name, f"`{place}`, where PyTorch has its names too.")
        self.__spec__ = ModuleSpec(name, None, origin=place)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            found = getattr(import_module(PATHS[self.__name__]), name, None)
            if found is not None:
                return found
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


def register() -> None:
    """Let import lines find them."""
    for name, place in PATHS.items():
        sys.modules.setdefault(name, _Elsewhere(name, place))
    absent.register()
    switches.register()


def module_below(package: str, name: str) -> ModuleType:
    """One of them as an attribute of its package.

    Raises:
        AttributeError: there is none.
    """
    path = f"{package}.{name}"
    is_known = path in PATHS or path.removeprefix("tgrad.") in absent.ABSENT
    if not is_known and path not in switches.PATHS:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return sys.modules[path]
