"""Groups of one structure share one region, and no others do."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fusion.checking import cut
from tgrad import nn
from tgrad.fusion import structure
from tgrad.fusion.builder import Built
from tgrad.fusion.device_limits import CPU_LIMITS
from tgrad.fusion.partition import MANY
from tgrad.fusion.region_json import work_text
from tgrad.fusion.structure import RegionBuilder
from tgrad.tensor import Tensor, tensor


def draw(*shape: int) -> Tensor:
    return tensor(np.ones(shape, np.float32), device="numpy")


def test_equal_layers_are_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    real = structure.build_region

    def counted(name: str, *args: object, **kwargs: object) -> object:
        built.append(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(structure, "build_region", counted)

    def builds(layers: int) -> int:
        built.clear()
        model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(layers))).to("numpy")
        x = draw(4, 8)
        for layer in model:
            x = (layer(x) * 2).relu()
        cut([x])
        return len(built)

    assert builds(12) == builds(4)


def test_equal_work_of_one_line_is_one_object() -> None:
    kernels = cut([draw(3, 4).exp() * k for k in (2.0,) * MANY])
    assert len(kernels) == MANY and len({id(k.region) for k in kernels}) == 1
    assert kernels[0].inputs != kernels[1].inputs


def test_each_region_names_its_own_line() -> None:
    a = [draw(3, 4).exp() for _ in range(MANY // 2)]
    b = [draw(3, 4).exp() for _ in range(MANY // 2)]
    lines = [f.region.source.line for f in cut([*a, *b])]
    assert len(lines) == MANY and len(set(lines)) == 2


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(lambda x, y: (x * 0.0, y * -0.0), id="signed zeros"),
        pytest.param(lambda x, y: (x * 2.0, y * 3.0), id="constants"),
        pytest.param(lambda x, y: (x.sum(0), y.sum(1)), id="axes"),
        pytest.param(lambda x, y: (x * x, y * x), id="one input or two"),
        pytest.param(lambda x, y: (x - y, y - x), id="order of inputs"),
        pytest.param(lambda x, y: (x + x.t(), y + y), id="movement"),
    ],
)
def test_what_is_remembered_is_what_would_be_built(pair) -> None:
    builder = RegionBuilder(CPU_LIMITS)
    for t in (*pair(draw(4, 4), draw(4, 4)), *pair(draw(4, 4), draw(4, 4))):
        group = [t._node]
        built = builder.build("r", group, group, set())
        anew = structure.build_region("r", group, group, set(), CPU_LIMITS)
        assert isinstance(built, Built) and isinstance(anew, Built)
        assert work_text(built.region) == work_text(anew.region)
        assert built.region.source == anew.region.source
        assert (built.inputs, built.outputs) == (anew.inputs, anew.outputs)
