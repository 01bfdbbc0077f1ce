"""What a device allows a kernel to be, and what fusion reckons with there.

In: nothing. Out: the Limits of each kind of device. Invariant: fusion knows a device by these and
by the figures of cost.py alone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What the device allows.

    Attributes:
        row_elements: longest row that is kept on chip between passes.
        busy_rows: with at least this many rows, longer ones may be read again by each pass.
        nested_elements: largest domain of a reduction over row reductions, which has few
            results to spread over programs.
        sort_row: longest row that one program sorts; a power of two.
        scan_block, scan_rows: with fewer than `scan_rows` rows, long ones are scanned in blocks.
        slots: most buffers of one kernel.
        values: most values of one kernel.
        chain_bytes: longest inner or output axis of a chain, which one tile holds.
        pair_bytes: the same for a chain with four dots or more.
        programs: programs that keep the device busy; sums that would make far fewer are split in
            two. 0 where that does not matter.
        columns: most columns whose sums a program keeps while it walks rows; 0 for none.
        sum_columns: columns that a program of such sums computes by itself.
        short_row: rows of so few elements are reduced again for each element of another axis,
            where those are reduced beside them anyway (merging parts of a softmax).
        program_bandwidth: bytes/s that one program reads.
        launch: seconds that one kernel more takes.
        dear_per_byte: cost of functions (graph/op.py) that takes as long as moving a byte.
        makes_planes: whether windows in two directions compute what they read once.
        turns_rows: whether a kernel that reads rows along memory may store them across it.
        dots: most dots of one kernel.
        shares_launches: whether equal kernels on other buffers may be one launch.
        orders_scatters: whether scatters take numbers in the order of their indices.
        compares_bits: whether extrema that programs join in memory are those of the floats' bits.
        keeps_order_of_dots: whether images lie with channels last; see fusion/memory_order.py.
        copies_channels_last: whether what convolutions read is copied so; see
            fusion/channels_last.py.
    """

    row_elements: int = 32768
    busy_rows: int = 256
    nested_elements: int = 1 << 22
    sort_row: int = 4096
    scan_block: int = 4096
    scan_rows: int = 256
    slots: int = 32
    values: int = 512
    chain_bytes: int = 512
    pair_bytes: int = 256
    programs: int = 128
    columns: int = 8192
    sum_columns: int = 32
    short_row: int = 64
    program_bandwidth: float = 25e9
    launch: float = 6e-6
    dear_per_byte: float = 10
    makes_planes: bool = False
    turns_rows: bool = True
    dots: int = 4
    shares_launches: bool = True
    orders_scatters: bool = False
    compares_bits: bool = True
    keeps_order_of_dots: bool = True
    copies_channels_last: bool = True

    @property
    def elements_of_a_launch(self) -> int:
        """Of half types: what a program reads in the time of one kernel more."""
        return round(self.program_bandwidth * self.launch / 2)


GPU_LIMITS = Limits()
"""Bandwidth and launch are an H100's (2026-11): 8 programs that sum columns 0.22 TB/s, 72 programs
1.4."""
INTERPRETER_LIMITS = Limits(sort_row=1024)
CPU_LIMITS = Limits(
    busy_rows=64,
    nested_elements=1 << 62,
    sort_row=1 << 62,
    scan_block=1 << 16,
    scan_rows=2,
    chain_bytes=1024,
    pair_bytes=1024,
    programs=0,
    columns=0,
    short_row=0,
    dear_per_byte=1,
    makes_planes=True,
    turns_rows=False,
    dots=1,
    orders_scatters=True,
    compares_bits=False,
    keeps_order_of_dots=False,
    copies_channels_last=False,
)
OPENCL_LIMITS = Limits(
    nested_elements=1 << 14,
    sort_row=1024,
    scan_block=1024,
    chain_bytes=0,
    pair_bytes=0,
    programs=1 << 8,
    columns=0,
    dots=1,
    compares_bits=False,
    shares_launches=False,
    keeps_order_of_dots=False,
    copies_channels_last=False,
)
"""A program is one work-item: it keeps few values, and many of them are needed; a few hundred keep
all cores busy and GPUs at work, and parts of more dots than that would take too much memory."""
