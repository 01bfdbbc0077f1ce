"""Kernels compared with the CPU: what is found, and what is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tgrad import dtype as dt
from tgrad.checking import Checked, checking, text_of
from tgrad.checking.compare import difference, units_of
from tgrad.cli.check import CheckRequest, check_script
from tgrad.fusion.region import Slot
from tgrad.kernel.ir import Artifact
from tgrad.runtime.cpu import HostMemory
from tgrad.runtime.interpret import InterpretRuntime
from tgrad.runtime.watch import current_watcher
from tgrad.tensor import Tensor, realize_tensors

Spoil = Callable[[Sequence[np.ndarray]], None]


def attention(device: str, dtype: str = "float32") -> list[Tensor]:
    """A loss and gradients: products, a chain, sums of rows and columns, a scatter."""
    rng = np.random.default_rng(0)
    kind = getattr(tgrad, dtype)

    def leaf(*shape: int) -> Tensor:
        made = tgrad.tensor(
            rng.standard_normal(shape).astype(np.float32), device=device, dtype=kind
        )
        return made.requires_grad_()

    table, w, scale = leaf(11, 16), leaf(48, 16), leaf(16)
    places = tgrad.tensor(rng.integers(0, 11, (2, 12)), device=device)
    x = F.layer_norm(F.embedding(places, table), (16,), scale)
    q, k, v = ((x @ w.T).reshape(2, 12, 3, 16)[:, :, i] for i in range(3))
    x = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    loss = F.cross_entropy((x @ table.T).reshape(24, 11).float(), places.reshape(24))
    loss.backward()
    assert table.grad is not None and w.grad is not None and scale.grad is not None
    return [loss, table.grad, w.grad, scale.grad]


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Equal bits: on a GPU gradients of the table would be added in the order of a race."""
    tgrad.use_deterministic_algorithms(True)
    yield
    tgrad.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.devices("cpu", "interpret")
def test_right_kernels_pass(device: str, dtype: str) -> None:
    with checking(every=True) as checker:
        values = attention(device, dtype)
        realize_tensors(values)
    assert current_watcher() is None
    assert len(checker.launches) >= 6
    assert all(x.is_right and not x.unknown for x in checker.launches), text_of(checker.launches)


@pytest.mark.devices("cpu", "interpret")
@pytest.mark.usefixtures("deterministic")
def test_the_program_goes_on_as_if_nobody_looked(device: str) -> None:
    with checking(every=True, repeat=3):
        values = attention(device)
        realize_tensors(values)
    want = attention(device)
    realize_tensors(want)
    for x, y in zip(values, want):
        np.testing.assert_array_equal(x.numpy(), y.numpy())


def spoiled(monkeypatch: pytest.MonkeyPatch, name: str, spoil: Spoil) -> list[Checked]:
    """What is found where kernels whose names begin so do something else, too."""
    launch = InterpretRuntime.launch

    def launch_and_spoil(
        self: InterpretRuntime, artifact: Artifact, memories: Sequence[HostMemory]
    ) -> None:
        launch(self, artifact, memories)
        if artifact.name.startswith(name):
            spoil([m.block for m in memories])

    monkeypatch.setattr(InterpretRuntime, "launch", launch_and_spoil)
    x = tgrad.tensor(np.random.default_rng(1).standard_normal((8, 40), np.float32),
                     device="interpret")  # fmt: skip
    with checking() as checker:
        realize_tensors([(x @ x.T).softmax(-1) @ x])
    return [x for x in checker.launches if not x.is_right]


def test_the_kernel_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(memories: Sequence[np.ndarray]) -> None:
        memories[-1].view(np.float32)[7] = 50.0

    (wrong,) = spoiled(monkeypatch, "matmul", spoil)
    (found,) = wrong.differences
    assert (found.wrong, found.at, found.have, found.size) == (1, 7, 50.0, 320)
    assert not wrong.changed and not wrong.unsteady
    text = text_of([wrong])
    assert wrong.kernel.name in text and "1 of 320 elements wrong" in text
    assert "test_checking.py:" in text and str(Path(wrong.path)) in text


def test_a_kernel_that_writes_elsewhere_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(memories: Sequence[np.ndarray]) -> None:
        memories[0][0] ^= 1

    (wrong,) = spoiled(monkeypatch, "matmul", spoil)
    assert wrong.changed == ("in0",) and not wrong.differences
    assert "writes to what it only reads: in0" in text_of([wrong])


def test_a_race_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other bits on the same inputs, though each time within the rounding."""
    runs = iter(range(100))

    def spoil(memories: Sequence[np.ndarray]) -> None:
        memories[-1].view(np.uint32)[3] += next(runs)

    (wrong,) = spoiled(monkeypatch, "matmul", spoil)
    assert wrong.unsteady == ("out0",) and not wrong.differences
    assert "other bits when it runs again" in text_of([wrong])


def test_a_run_in_place_is_repeated_from_what_was_there() -> None:
    p = tgrad.tensor(np.arange(64, dtype=np.float32), device="interpret", requires_grad=True)
    optimizer = tgrad.optim.SGD([p], lr=1.0)

    @tgrad.compile
    def step() -> None:
        optimizer.zero_grad()
        (p * p).sum().backward()
        optimizer.step()

    with checking(repeat=4) as checker:
        step()
        step()
    assert checker.launches and all(x.is_right for x in checker.launches)
    np.testing.assert_array_equal(p.numpy(), np.arange(64, dtype=np.float32))


def test_equal_kernels_are_checked_once_unless_all_are() -> None:
    def run(every: bool) -> int:
        x = tgrad.tensor(np.ones((8, 8), np.float32), device="interpret")
        with checking(every=every) as checker:
            for _ in range(2):
                realize_tensors([x @ x @ x @ x])
        return len(checker.launches)

    assert run(True) > run(False) >= 1


def slot(dtype: dt.DType, size: int) -> Slot:
    return Slot("out0", dtype, size, "out")


def test_what_rounding_explains_is_no_difference() -> None:
    rng = np.random.default_rng(0)
    exact = rng.standard_normal(10_000)
    for dtype, unit in ((dt.float32, 2.0**-12), (dt.bfloat16, 2.0**-8), (dt.float16, 2.0**-11)):
        want = exact.astype(dtype.numpy)
        near = (exact * (1 + unit * rng.uniform(-1, 1, exact.size))).astype(dtype.numpy)
        assert difference(slot(dtype, want.size), near, want, unit) is None
        far = near.copy()
        far[1234] = 3.0 - float(far[1234])
        found = difference(slot(dtype, want.size), far, want, unit)
        assert found is not None and (found.wrong, found.at) == (1, 1234)
        shifted = np.roll(want, 1)
        found = difference(slot(dtype, want.size), shifted, want, unit)
        assert found is not None and found.wrong > 5000


def test_what_is_not_finite() -> None:
    want = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    assert difference(slot(dt.float32, 4), want.copy(), want, 2.0**-12) is None
    for at, value in ((0, 1.0), (1, -np.inf), (3, np.nan), (3, np.inf)):
        have = want.copy()
        have[at] = value
        found = difference(slot(dt.float32, 4), have, want, 2.0**-12)
        assert found is not None and (found.wrong, found.at) == (1, at)


def test_integers_may_differ_in_few_places() -> None:
    want = np.zeros(4096, np.int32)
    have = want.copy()
    have[:3] = 1
    assert difference(slot(dt.int32, 4096), have, want, 0.0) is None
    have[:9] = 1
    found = difference(slot(dt.int32, 4096), have, want, 0.0)
    assert found is not None and found.wrong == 9


def test_units_are_of_the_widest_rounding_on_the_way() -> None:
    from tests.triton_gen.patterns import linear

    (unit,) = units_of(linear(8, 8, 8, dt.float32)).values()
    assert unit == 2.0**-12
    (unit,) = units_of(linear(8, 8, 8, dt.bfloat16)).values()
    assert unit == 2.0**-8


SCRIPT = """
import numpy as np
import tgrad
w = tgrad.tensor(np.ones((4, 4), np.float32), device="interpret", requires_grad=True)
optimizer = tgrad.optim.SGD([w], lr=0.1)
for i in range(50):
    optimizer.zero_grad()
    loss = (w @ w).sum()
    loss.backward()
    optimizer.step()
    print("loss", loss.item(), flush=True)
"""


def test_the_command(tmp_path: Path, capsys: Any) -> None:
    script, path = tmp_path / "program.py", tmp_path / "checked.json"
    script.write_text(SCRIPT)
    assert check_script(script, [], CheckRequest(steps=2, json_path=path)) == 0
    out = capsys.readouterr().out
    assert "launches compared with the CPU: all right" in out
    assert out.count("loss") < 3
    rows = json.loads(path.read_text())["launches"]
    assert rows and all(r["right"] and r["kernel"] and r["line"].startswith("program.py:")
                        for r in rows)  # fmt: skip


def test_the_command_says_what_is_wrong(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "program.py"
    script.write_text(SCRIPT)
    launch = InterpretRuntime.launch

    def zero(self: InterpretRuntime, artifact: Artifact, memories: Sequence[HostMemory]) -> None:
        launch(self, artifact, memories)
        memories[-1].block[:] = 0

    monkeypatch.setattr(InterpretRuntime, "launch", zero)
    assert check_script(script) == 1
    assert "the first is" in capsys.readouterr().out


def test_the_command_gives_up(tmp_path: Path, capsys: Any) -> None:
    assert check_script(tmp_path / "none.py") == 1
    (tmp_path / "idle.py").write_text("import tgrad\n")
    assert check_script(tmp_path / "idle.py") == 1
    (tmp_path / "exits.py").write_text(
        SCRIPT.replace("range(50)", "range(1)") + "raise SystemExit(3)"
    )
    assert check_script(tmp_path / "exits.py", [], CheckRequest(steps=0)) == 1
    err = capsys.readouterr().err
    assert "is not a file" in err and "launched no kernel" in err and "exit status 3" in err
