"""`python -m bench`: the commands.

In: the command line. Out: tables, files, an exit status. Invariant: the work is in the modules; a
command imports what it needs alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bench.case import Case, StepCase
from bench.process import PeerFailure, PeerSpec

if TYPE_CHECKING:
    from bench.results import Results
    from bench.session import Plan
    from bench.tables import Table

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = "Benchmarks of tgrad. See docs/benchmarks.md."

PEERS: dict[str, tuple[str, str]] = {
    "tgrad": ("bench.peers.tgrad", ""),
    "torch": ("bench.peers.torch", ""),
    "compile": ("bench.peers.torch", "compile"),
    "max-autotune": ("bench.peers.torch", "max-autotune"),
    "backend": ("bench.peers.torch", "tgrad"),
    "jax": ("bench.peers.jax", ""),
    "tinygrad": ("bench.peers.tinygrad", ""),
}
"""Columns: module and option. Any other name is a module of its own, see bench/peers."""

LOOK_PEERS = {
    "launches": "compile,tinygrad",
    "memory": "torch,compile",
    "compile": "compile",
}
CPU_PEERS = "torch,compile,backend,jax,tinygrad"
GPU_PEERS = "torch,compile,max-autotune"
COMPILING = ("tgrad", "compile", "max-autotune", "backend", "jax", "tinygrad")
"""Peers whose first step compiles."""
SEARCHING = ("max-autotune",)
"""Peers whose search for kernels takes too long for every row."""
ROTATED = 1 << 28
"""Bytes of inputs that calls on a GPU take turns with: past any L2."""


@dataclass(frozen=True)
class Usual:
    """What `cpu` or `gpu` does where the command line does not say otherwise.

    Attributes:
        peers: names, with commas between.
        rounds: turns of each peer.
        seconds, least: of measuring in a turn, about; calls in it, at least.
        minutes: of the run.
        patience: seconds that a peer may take to load a case.
    """

    peers: str
    rounds: int
    seconds: float
    least: int
    minutes: float
    patience: float


USUAL = {
    "cpu": Usual(CPU_PEERS, 9, 0.15, 1, float("inf"), 600.0),
    "gpu": Usual(GPU_PEERS, 3, 0.02, 3, 8.0, 120.0),
}


def specs_of(names: Sequence[str], interpreters: dict[str, str]) -> list[PeerSpec]:
    """tgrad and the peers of these names, each with its interpreter."""
    found = []
    for name in dict.fromkeys(("tgrad", *names)):
        module, option = PEERS.get(name, (name, ""))
        family = "torch" if module == "bench.peers.torch" else name
        interpreter = interpreters.get(name, interpreters.get(family, sys.executable))
        found.append(PeerSpec(name, module, option, interpreter))
    return found


def parse_interpreters(values: Sequence[str]) -> dict[str, str]:
    """`jax=/path/to/python` for each."""
    found = {}
    for value in values:
        name, sign, path = value.partition("=")
        if not sign or not path:
            raise SystemExit(f"python -m bench: --python {value}: write NAME=PATH")
        found[name] = path
    return found


def _add_peers(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--peers", default=default, help="names, with commas between")
    parser.add_argument(
        "--python", action="append", default=[], metavar="NAME=PATH",
        help="the interpreter that has a peer, such as jax=/venvs/jax/bin/python",
    )  # fmt: skip
    parser.add_argument("--cores", type=int, default=0, help="threads (default: all cores)")


def _add_run(commands: Commands) -> None:
    for kind, usual in USUAL.items():
        parser = commands.add_parser(kind, help=f"the table of the {kind.upper()}, peers beside")
        _add_peers(parser, usual.peers)
        parser.add_argument("--only", default="", help="keys of cases or shell patterns of them, "
                            "such as 'softmax_*', with commas between")  # fmt: skip
        parser.add_argument("--rounds", type=int, default=usual.rounds, help="turns of each peer")
        parser.add_argument("--minutes", type=float, default=usual.minutes,
                            help="of the run; cases that come later are named")  # fmt: skip
        parser.add_argument("--patience", type=float, default=usual.patience,
                            help="seconds that a peer may take to load a case")  # fmt: skip
        parser.add_argument("--small", action="store_true", help="tiny sizes, to try it")
        parser.add_argument("--json", type=Path, help="write the results, after each case again")
        parser.add_argument("--logs", type=Path, help="folder for what the peers print")
        parser.add_argument("--plot", type=Path, help="write a picture (needs matplotlib)")
        parser.add_argument("--markdown", action="store_true", help="print Markdown")
        parser.add_argument(
            "--preliminary", action="store_true", help="mark the results as of no weight"
        )
        parser.add_argument(
            "--first-steps", action=argparse.BooleanOptionalAction, default=kind == "cpu",
            help="first steps from an empty and a warm cache too",
        )  # fmt: skip
        if kind == "gpu":
            parser.add_argument("--search-all", action="store_true",
                                help="max-autotune takes part in all cases")  # fmt: skip


def _add_compare(commands: Commands) -> None:
    parser = commands.add_parser("compare", help="what got slower from one run to another")
    parser.add_argument("before", type=Path, help="results of `cpu` or `gpu`")
    parser.add_argument("after", type=Path, help="results of the same table")


def _add_looks(commands: Commands) -> None:
    for name, text in (
        ("launches", "launches and bytes of training steps, beside torch.compile and tinygrad"),
        ("memory", "peak memory of training steps, beside PyTorch"),
        ("compile", "first steps from an empty and a warm cache, beside torch.compile"),
    ):
        parser = commands.add_parser(name, help=text)
        _add_peers(parser, LOOK_PEERS[name])
        parser.add_argument("--only", default="", help="keys of steps, with commas between")
        parser.add_argument("--small", action="store_true", help="tiny sizes, to try it")
        parser.add_argument("--json", type=Path, help="write the table")
        parser.add_argument("--markdown", action="store_true", help="print Markdown")


def _add_counts(commands: Commands) -> None:
    parser = commands.add_parser("counts", help="figures of plans, the same on every machine")
    parser.add_argument("--json", type=Path, help="write them")
    parser.add_argument("--check", type=Path, help="compare with a file; 1 where they differ")


def _add_static(commands: Commands) -> None:
    parser = commands.add_parser(
        "static", help="registers, spills, loads, matrix instructions of kernels of training steps"
    )
    parser.add_argument("--target", default="", help="sm_90 or gfx942 (default: both)")
    parser.add_argument("--write", action="store_true", help="write bench/results/static")


def _add_accuracy(commands: Commands) -> None:
    parser = commands.add_parser("accuracy", help="errors of every op, beside PyTorch's")
    parser.add_argument("--device", default="cpu", help="of tgrad")
    parser.add_argument("--json", type=Path, help="write the table")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")


def _add_target(commands: Commands) -> None:
    parser = commands.add_parser("target", help="time to an accuracy or a loss, beside PyTorch")
    _add_peers(parser, "torch,compile")
    parser.add_argument(
        "--data", type=Path, required=True,
        help="folder with mnist-10k/ (idx files) and tinyshakespeare.txt",
    )  # fmt: skip
    parser.add_argument("--only", default="", help="target_mnist or target_text")
    parser.add_argument("--json", type=Path, help="write the table")
    parser.add_argument("--preliminary", action="store_true", help="mark the table so")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")


def _add_confirm(commands: Commands) -> None:
    parser = commands.add_parser(
        "confirm", help="whether training steps are right on a GPU, and else which kernel is not"
    )
    parser.add_argument("keys", nargs="*", help="of steps (default: step_gpt2, step_resnet50)")
    parser.add_argument(
        "--check", choices=("auto", "always", "never"), default="auto",
        help="kernels one by one: where losses differ, always or never",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="every launch, not each kernel once")
    parser.add_argument("--json", type=Path, help="write what was found, after each step again")
    for_device(parser)


def _add_variants(commands: Commands) -> None:
    parser = commands.add_parser("variants", help="kernels of rows with one thing changed")
    parser.add_argument("keys", nargs="*", help="of rows, or shell patterns of them (default: "
                        "those that were short on an H100)")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5, help="turns of each variant")
    for_device(parser)


def for_device(parser: argparse.ArgumentParser) -> None:
    """Where, and how large."""
    parser.add_argument("--device", default="cuda", help="of tgrad and PyTorch")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try it")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_run(commands)
    _add_compare(commands)
    _add_counts(commands)
    _add_static(commands)
    _add_accuracy(commands)
    _add_target(commands)
    _add_confirm(commands)
    _add_variants(commands)
    commands.add_parser("docs", help="write docs/benchmarks.md from bench/results")
    _add_looks(commands)
    arguments = parser.parse_args(argv)
    actions = {
        "cpu": run_cpu,
        "gpu": run_gpu,
        "compare": run_compare,
        "counts": run_counts,
        "static": run_static,
        "accuracy": run_accuracy,
        "target": run_target,
        "confirm": run_confirm,
        "variants": run_variants,
        "docs": run_docs,
        "launches": run_look,
        "memory": run_look,
        "compile": run_compile,
    }
    try:
        return actions[arguments.command](arguments)
    except (OSError, ValueError, PeerFailure) as error:
        print(f"python -m bench {arguments.command}: {error}", file=sys.stderr)
        return 2


def run_confirm(arguments: argparse.Namespace) -> int:
    """`confirm`; 1 where a step is wrong."""
    from bench.confirm import DEFAULT, confirm

    sizes = "small" if arguments.small else "full"
    is_right = confirm(arguments.keys or DEFAULT, arguments.device, sizes, arguments.check,
                       arguments.all, print_now, arguments.json)  # fmt: skip
    return int(not is_right)


def run_variants(arguments: argparse.Namespace) -> int:
    """`variants`."""
    from bench.variants import SHORT, chosen, measure

    for case in chosen(arguments.keys or SHORT, "small" if arguments.small else "full"):
        measure(case, arguments.device, arguments.rounds, print_now)
    return 0


def print_now(line: str) -> None:
    """A line of what is found, at once: a run that is killed has said it."""
    print(line, flush=True)


def report(line: str) -> None:
    """What is being done, on standard error."""
    print(line, file=sys.stderr, flush=True)


def names_of(text: str) -> list[str]:
    """Names with commas between."""
    return [name for name in text.split(",") if name]


def plan_of(arguments: argparse.Namespace, device: str, reference: str) -> Plan:
    """The run that `cpu` and `gpu` ask for; the reference is PyTorch's of that dtype."""
    from bench.session import Plan

    interpreters = parse_interpreters(arguments.python)
    torch = interpreters.get("torch", sys.executable)
    usual = USUAL[arguments.command]
    return Plan(
        kind=arguments.command,
        table=f"bench.cases_{arguments.command}",
        sizes="small" if arguments.small else "full",
        device=device,
        peers=specs_of(names_of(arguments.peers), interpreters),
        reference=PeerSpec("reference", "bench.peers.torch", reference, torch),
        rounds=arguments.rounds,
        seconds=usual.seconds,
        least=usual.least,
        cores=arguments.cores,
        preliminary=arguments.preliminary or arguments.small,
        patience=arguments.patience,
        budget=60 * arguments.minutes,
        logs=arguments.logs,
    )


def run_cpu(arguments: argparse.Namespace) -> int:
    """The table of the CPU, and the first steps of its training steps."""
    from bench import cases_cpu

    plan = plan_of(arguments, "cpu", "float64")
    return run_table(plan, cases_cpu.cases(plan.sizes), arguments)


def run_gpu(arguments: argparse.Namespace) -> int:
    """The table of the GPU, in Markdown, and on request the first steps of its training steps."""
    from bench import cases_gpu

    arguments.markdown = True
    plan = replace(
        plan_of(arguments, "cuda", "float32"),
        rotate=ROTATED,
        is_side_by_side=True,
        searching=() if arguments.search_all else SEARCHING,
    )
    return run_table(plan, cases_gpu.cases(plan.sizes), arguments)


def run_table(plan: Plan, cases: Sequence[Case], arguments: argparse.Namespace) -> int:
    """Measure what was chosen of a table."""
    from bench import results
    from bench.first_step import measure_first_steps
    from bench.session import chosen_cases, run

    def keep(found: Results) -> None:
        if path := path_of(found, arguments):
            results.write(found, path)

    chosen = chosen_cases(cases, names_of(arguments.only))
    found = run(plan, chosen, report, keep)
    if arguments.first_steps:
        steps = [c for c in chosen if isinstance(c, StepCase)]
        peers = [s for s in plan.peers if s.name in COMPILING]
        cores = found.machine.cores
        measured = measure_first_steps(plan.table, plan.sizes, steps, peers, cores, plan.device)
        found = replace(found, first_steps=measured)
        keep(found)
    return finish(found, arguments)


def path_of(found: Results, arguments: argparse.Namespace) -> Path | None:
    """The file of the results: that of `--json`, else of a GPU's full table one that is named after
    the GPU and the date."""
    from bench.pages import dated_path

    if arguments.json is not None or found.kind != "gpu" or arguments.small:
        path: Path | None = arguments.json
        return path
    return dated_path(found.machine.accelerator, found.date)


def finish(found: Results, arguments: argparse.Namespace) -> int:
    """Print the tables, and draw what was asked for."""
    from bench import tables

    wanted = [tables.main_table(found)]
    if found.first_steps:
        wanted.append(tables.first_step_table(found.first_steps))
    for table in wanted:
        print_table(table, arguments.markdown)
    if path := path_of(found, arguments):
        report(f"results are in {path}")
    if arguments.plot:
        from bench.plot import plot

        plot(found, arguments.plot)
    return 0


def print_table(table: Table, as_markdown: bool = False) -> None:
    """With rich where it is installed, else as Markdown."""
    from bench import tables

    if as_markdown or find_spec("rich") is None:
        print(tables.markdown(table))
    else:
        tables.show(table)


def run_compare(arguments: argparse.Namespace) -> int:
    """1 where anything got slower."""
    from bench import compare, results

    changes = compare.compare(results.read(arguments.before), results.read(arguments.after))
    print_table(compare.table_of(changes))
    return int(any(c.is_worse for c in changes))


def run_counts(arguments: argparse.Namespace) -> int:
    """1 where anything differs from the file of `--check`."""
    from bench import counts

    found = counts.count_all()
    print_table(counts.table_of(found))
    if arguments.json:
        counts.write(found, arguments.json)
    if arguments.check:
        lines = [line for line, _ in counts.differences(counts.read(arguments.check), found)]
        if lines:
            print(counts.message_of(lines), file=sys.stderr)
            return 1
    return 0


def run_static(arguments: argparse.Namespace) -> int:
    """1 where a kernel is not as its sizes allow."""
    from bench import static_quality

    has_faults = False
    for target in names_of(arguments.target) or static_quality.TARGETS:
        file = static_quality.make(target)
        print_table(static_quality.table_of(file))
        for line in static_quality.faults_of(file):
            print(f"{target}: {line}", file=sys.stderr)
            has_faults = True
        if arguments.write:
            static_quality.write(file, static_quality.path_of(target))
    return int(has_faults)


def chosen_steps(arguments: argparse.Namespace) -> list[StepCase]:
    """The steps of `--only`, else the three that are looked into."""
    from bench.looking import KEYS
    from bench.steps import STEPS, step_case

    keys = names_of(arguments.only) or list(KEYS)
    for key in keys:
        if key not in STEPS:
            raise ValueError(f"no step {key!r}; the steps are {', '.join(STEPS)}")
    return [step_case(key, "small" if arguments.small else "full") for key in keys]


def run_look(arguments: argparse.Namespace) -> int:
    """`launches` and `memory`."""
    from bench import looking
    from bench.machine import available_cores

    what = {"launches": "count_launches", "memory": "peak_memory"}[arguments.command]
    specs = specs_of(names_of(arguments.peers), parse_interpreters(arguments.python))[1:]
    cases = chosen_steps(arguments)
    cores = arguments.cores or available_cores()
    found = looking.look(what, cases[0].sizes, cases, specs, cores)
    make = {"launches": looking.launch_table, "memory": looking.memory_table}
    return finish_table(make[arguments.command](found), arguments, arguments.small)


def run_compile(arguments: argparse.Namespace) -> int:
    """`compile`: first steps."""
    from bench.first_step import measure_first_steps
    from bench.machine import Others, available_cores
    from bench.tables import first_step_table

    others = Others()
    specs = specs_of(names_of(arguments.peers), parse_interpreters(arguments.python))
    cases = chosen_steps(arguments)
    cores = arguments.cores or available_cores()
    found = measure_first_steps("bench.steps", cases[0].sizes, cases, specs, cores)
    return finish_table(first_step_table(found), arguments, arguments.small, others.cores())


def run_accuracy(arguments: argparse.Namespace) -> int:
    """`accuracy`: every op, in three dtypes."""
    from bench import accuracy

    return finish_table(accuracy.table_of(accuracy.measure_all(device=arguments.device)), arguments)


def run_docs(arguments: argparse.Namespace) -> int:
    """`docs`: docs/benchmarks.md and the README's section."""
    from bench import pages

    pages.write_pages()
    return 0


def run_target(arguments: argparse.Namespace) -> int:
    """`target`: both tasks."""
    from bench import target
    from bench.machine import Others, available_cores

    others = Others()
    specs = specs_of(names_of(arguments.peers), parse_interpreters(arguments.python))
    cores = arguments.cores or available_cores()
    keys = names_of(arguments.only)
    known = [task.case.key for task in target.TASKS]
    for key in keys:
        if key not in known:
            raise ValueError(f"no task {key!r}; the tasks are {', '.join(known)}")
    found = []
    for task in target.TASKS:
        if not keys or task.case.key in keys:
            found += target.run_task(task, arguments.data, specs, cores, report)
    table = target.table_of(found)
    return finish_table(table, arguments, arguments.preliminary, others.cores())


def finish_table(
    table: Table,
    arguments: argparse.Namespace,
    preliminary: bool = False,
    others: float | None = None,
) -> int:
    """Print it, and write what was asked for; `others` is what other processes took of the cores,
    where times were measured."""
    print_table(table, arguments.markdown)
    if arguments.json:
        from bench.machine import is_shared
        from bench.tables import write_table

        write_table(table, arguments.json, preliminary or is_shared(others), others)
    return 0


if __name__ == "__main__":
    sys.exit(main())
