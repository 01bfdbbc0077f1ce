"""Minimal filtering: its matrices, what they round, and the convolutions made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import tgrad
import tgrad.nn.functional as F
from tests.cpu_fallback.cases import call, check, convolution, random_slots
from tgrad import cpu_fallback
from tgrad.cpu_fallback import detect_machine
from tgrad.cpu_fallback.code import round_up
from tgrad.cpu_fallback.window_heuristics import (
    window_config,
    window_programs,
    winograd_points,
    with_tiles,
)
from tgrad.cpu_fallback.winograd import (
    PAIRS,
    data_matrix,
    filter_matrix,
    result_matrix,
    transform_piece,
)
from tgrad.fusion.evaluate import evaluate_region
from tgrad.fusion.region import Region
from tgrad.kernel.ir import Config
from tgrad.settings import Settings

SIZES = [(count, taps) for count in PAIRS for taps in range(2, count)]


def times(matrix: Sequence[Sequence[Fraction]], vector: Sequence[Any]) -> list[Any]:
    return [sum(x * y for x, y in zip(row, vector, strict=True)) for row in matrix]


@pytest.mark.parametrize("count, taps", SIZES)
def test_the_identity_is_exact(count: int, taps: int) -> None:
    rng = np.random.default_rng(count + taps)
    d, g = ([Fraction(int(x)) for x in rng.integers(-9, 9, n)] for n in (count, taps))
    results = count + 1 - taps
    products = zip(times(filter_matrix(count, taps), g), times(data_matrix(count), d))
    have = times(result_matrix(count, results), [a * b for a, b in products])
    assert have == [sum(d[i + j] * g[j] for j in range(taps)) for i in range(results)]


@pytest.mark.parametrize("kind", ["data", "filter", "result"])
@pytest.mark.parametrize("count, taps", SIZES)
def test_c_text_says_what_the_matrices_say(count: int, taps: int, kind: str) -> None:
    """The lines of a C function, evaluated as Python."""
    size = {"data": count, "filter": taps, "result": count + 1 - taps}[kind]
    matrix = {
        "data": data_matrix(count),
        "filter": filter_matrix(count, taps),
        "result": result_matrix(count, size),
    }[kind]
    x = np.random.default_rng(taps).standard_normal(len(matrix[0]))
    values: dict[str, float] = {f"x{n}": value for n, value in enumerate(x)}
    for line in transform_piece(kind, count, size, 8).splitlines():
        name, _, text = line.strip().removeprefix("const tg_float_8 ").partition(" = ")
        if text and name[0] in "euoy" and name[1].isdigit():
            values[name] = eval(text.rstrip(";").replace("f *", " *"), {}, values)
    have = [values[f"y{n}"] for n in range(len(matrix))]
    np.testing.assert_allclose(have, np.array(times(matrix, x), float), rtol=1e-12, atol=1e-12)


def configs(region: Region, points: int) -> Config:
    """The configuration with so many points; that of the plain sum with 0."""
    machine = detect_machine()
    for config, program in window_programs(region, machine):
        if points == 0:
            return with_tiles(config, program, machine)
        if points in winograd_points(program, machine):
            return with_tiles(replace(config, winograd=points), program, machine)
    raise AssertionError("no window program fits")


CASES = [
    # kind, n, c, o, h, k, pad
    pytest.param("forward", 3, 16, 32, 12, 3, 0, id="whole tiles"),
    pytest.param("forward", 2, 32, 30, 13, 3, 1, id="parts of tiles and of panels"),
    pytest.param("forward", 2, 16, 7, 9, 2, 1, id="even window"),
    pytest.param("forward", 1, 48, 16, 3, 3, 2, id="more zeros than image"),
    pytest.param("input", 3, 32, 16, 12, 3, 0, id="gradient of the image"),
    pytest.param("weight", 3, 32, 30, 12, 3, 0, id="gradient of the weights"),
    pytest.param("weight", 5, 16, 16, 11, 3, 2, id="of padded images"),
    pytest.param("weight", 2, 48, 9, 7, 2, 0, id="of an even window"),
]


@pytest.mark.parametrize("points", PAIRS)
@pytest.mark.parametrize("kind, n, c, o, h, k, pad", CASES)
def test_convolutions(
    settings: Settings, kind: str, n: int, c: int, o: int, h: int, k: int, pad: int, points: int
) -> None:
    region = convolution(kind, n, c, o, h, k, pad)
    check(region, settings, tolerance=2e-4, config=configs(region, points))


@pytest.mark.parametrize("band", [1, 4, 7])
@pytest.mark.parametrize("kind", ["forward", "weight"])
def test_bands_of_any_height(settings: Settings, kind: str, band: int) -> None:
    region = convolution(kind, 3, 16, 20, 19, 5, 2)
    check(region, settings, tolerance=4e-4, config=replace(configs(region, 6), band=band))


@pytest.mark.parametrize("points, o", [(0, 32), (4, 32), (4, 30), (6, 48)])
@pytest.mark.parametrize("n", [1, 5])
def test_gradients_of_many_weights_in_blocks(
    settings: Settings, points: int, o: int, n: int
) -> None:
    """Half of the cache holds the sums of some channels of the image, not of all."""
    machine = detect_machine()
    taps, lanes = points**2 or 9, machine.lanes(4)
    machine = replace(machine, l2=2 * 4 * taps * lanes * round_up(o, 2 * lanes))
    region = convolution("weight", n, 4 * lanes, o, 9, 3, 1)
    config, program = next(
        (c, p) for c, p in window_programs(region, machine) if p.kind == "weights"
    )
    config = with_tiles(replace(config, winograd=points), program, machine)
    [draft] = cpu_fallback.draft([region], [config], machine)
    assert "block_lo" in draft.source
    [artifact] = cpu_fallback.compile_drafts([draft], settings)
    arrays = random_slots(region, 3)
    [*_, want] = evaluate_region(region, arrays)
    np.testing.assert_allclose(call(artifact.entry, arrays)[-1], want, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(
    "kind, k, points, most",
    [
        ("forward", 3, 4, 1.0),
        ("forward", 3, 6, 2.0),
        ("forward", 5, 6, 2.0),
        ("weight", 3, 4, 1.0),
        ("weight", 3, 6, 1.5),
        ("weight", 5, 6, 2.0),
    ],
)
def test_rounding_is_near_that_of_the_plain_sum(
    settings: Settings, kind: str, k: int, points: int, most: float
) -> None:
    """Root mean square of the error against sums in float64, over that of the plain sum."""
    region = convolution(kind, 8, 32, 32, 14, k)
    arrays = random_slots(region, 5)
    doubles = [a.astype(np.float64) for a in arrays]
    [*_, exact] = evaluate_region(region, doubles)
    errors = []
    for chosen in (points, 0):
        [artifact] = cpu_fallback.generate([region], settings, [configs(region, chosen)])
        errors.append(np.sqrt(np.mean((call(artifact.entry, arrays)[-1] - exact) ** 2)))
    assert errors[0] <= most * errors[1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["image", "weight"])
def test_what_is_not_finite_stays_where_it_is(value: float, where: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    image = rng.standard_normal((4, 32, 20, 20), dtype=np.float32)
    weight = rng.standard_normal((32, 32, 3, 3), dtype=np.float32)
    if where == "image":
        image[1, 3, 9, 10] = value
    else:
        weight[5, 0, 1, 2] = value
    want = torch.nn.functional.conv2d(torch.from_numpy(image), torch.from_numpy(weight)).numpy()
    tensors = (tgrad.tensor(a, device="cpu") for a in (image, weight))
    have = F.conv2d(*tensors)
    np.testing.assert_allclose(have.numpy(), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "region, points",
    [
        (convolution("forward", 64, 32, 32, 24, 5), 6),
        (convolution("weight", 64, 32, 32, 24, 5), 6),
        (convolution("forward", 32, 64, 64, 8, 3), 4),
        (convolution("forward", 64, 1, 32, 28, 5), 0),
        (convolution("forward", 64, 32, 32, 24, 3, 1, 2), 0),
        (convolution("forward", 1, 64, 64, 4, 3), 0),
    ],
    ids=["5x5", "weights", "small images", "one channel", "strided", "few pixels"],
)
def test_where_it_pays(region: Region, points: int) -> None:
    machine = replace(detect_machine(), vector_bytes=32, vector_registers=16, l2=512 << 10)
    config = window_config(region, machine)
    assert (0 if config is None else config.winograd) == points
