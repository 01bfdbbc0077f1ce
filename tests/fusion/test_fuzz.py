"""Random graphs: the partition computes what the graph says, whatever the graph."""

from __future__ import annotations

from hypothesis import given, settings

import tgrad
from tests.fusion.checking import cut
from tests.fuzzing import graphs
from tgrad.tensor import Tensor


@settings(max_examples=300)
@given(graphs("numpy"))
def test_partition_of_random_graphs(outputs: list[Tensor]) -> None:
    cut(outputs)


def test_a_product_of_operands_that_do_not_vary_along_what_is_contracted() -> None:
    """Found by the graphs above."""
    a = tgrad.tensor([0.5, -2.0], device="numpy").reshape(2, 1).expand(2, 3)
    cut([(a @ a.transpose(0, 1)) * 0.2])
