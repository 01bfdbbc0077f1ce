"""Random graphs: the partition computes what the graph says, whatever the graph."""

from __future__ import annotations

from hypothesis import given, settings

from tests.fusion.checking import cut
from tests.fuzzing import graphs
from tgrad.tensor import Tensor


@settings(max_examples=300)
@given(graphs("numpy"))
def test_partition_of_random_graphs(outputs: list[Tensor]) -> None:
    cut(outputs)
