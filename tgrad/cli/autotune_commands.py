"""`tgrad autotune` and its subcommands.

In: the command line, as typer parses it. Out: an exit status. Invariant: a first word that is no
subcommand is a script to tune.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

PASS_ON = {"ignore_unknown_options": True}
"""Options that are not ours belong to the script."""


class _ScriptOrCommand(TyperGroup):
    """A group whose command `run` may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ScriptOrCommand,
    help="Find quicker configurations for the kernels of a program, ahead of time: tgrad autotune "
    "SCRIPT [OPTIONS]. The options are those of `tgrad autotune run --help`.",
    no_args_is_help=True,
)


@app.command(context_settings=PASS_ON)
def run(
    script: Path = typer.Argument(help="The Python program.", show_default=False),
    arguments: list[str] = typer.Argument(
        None, help="Its own arguments; after -- they may be any.", show_default=False
    ),
    budget: str = typer.Option("120s", help="How long, for example 90s or 5min."),
    kernels: str = typer.Option("*", metavar="GLOB", help="Only kernels of such names."),
    device: str = typer.Option("cpu", help="Where they run and are measured: cpu or cuda."),
    target: str = typer.Option(None, help="A GPU that is not here: sm_90, gfx942, ..."),
    compile_only: bool = typer.Option(
        False, "--compile-only", help="Measure nothing: rank for --target, write --output."
    ),
    output: Path = typer.Option(
        None, metavar="FILE", help="Of --compile-only; SCRIPT.TARGET.tune.json if left out."
    ),
    jobs: int = typer.Option(0, min=0, help="Processes that compile; 0 for one a core."),
    seed: int = typer.Option(0, help="Of the search: the same one finds the same."),
    log: Path = typer.Option(None, metavar="FILE", help="Write what happens as JSON lines."),
) -> None:
    """Tune the plans and kernels of SCRIPT within a budget; the word `run` may be left out.

    The script is planned and not run. Choices for whole plans come first, then the kernels in the
    order of their share of the predicted time; what is found is stored at once and used by every
    later run.
    """
    from tgrad.autotuning.session import Request
    from tgrad.cli.autotune import Asked, autotune_script
    from tgrad.settings import parse_seconds

    try:
        seconds = parse_seconds(budget)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--budget") from None
    if device not in ("cpu", "cuda"):
        raise typer.BadParameter(f"{device!r} is not cpu or cuda.", param_hint="--device")
    if compile_only != (target is not None):
        raise typer.BadParameter("--target and --compile-only go together.")
    if output is not None and not compile_only:
        raise typer.BadParameter("--output goes with --compile-only.", param_hint="--output")
    if compile_only and output is None:
        output = Path(f"{script.stem}.{target}.tune.json")
    request = Request(seconds, kernels, jobs, seed, device, target or "")
    raise typer.Exit(autotune_script(script, arguments or [], Asked(request, log, output)))


@app.command()
def show(
    every: bool = typer.Option(False, "--all", help="Those of other devices and versions too."),
) -> None:
    """List what is stored."""
    from tgrad.cli import autotune_store

    raise typer.Exit(autotune_store.show(every))


@app.command()
def export(
    file: Path = typer.Argument(help="Such as train.tune.json, beside train.py."),
    kernels: str = typer.Option("*", metavar="GLOB", help="Only kernels of such names."),
) -> None:
    """Write what is stored for this machine as JSON to commit.

    Runs of train.py find train.tune.json, else tgrad-tune.json, in its directory.
    """
    from tgrad.cli import autotune_store

    raise typer.Exit(autotune_store.export(file, kernels))


@app.command("import")
def import_(file: Path = typer.Argument(help="Written by export.")) -> None:
    """Store what a file says, if it is for this kind of machine and as it was written."""
    from tgrad.cli import autotune_store

    raise typer.Exit(autotune_store.import_(file))


@app.command()
def diff(file: Path = typer.Argument(help="Written by export.")) -> None:
    """Show where the store and a file choose differently; the exit status says whether."""
    from tgrad.cli import autotune_store

    raise typer.Exit(autotune_store.diff(file))


@app.command()
def prune(
    devices: bool = typer.Option(False, "--devices", help="Those of other devices too."),
) -> None:
    """Forget what was measured with other versions."""
    from tgrad.cli import autotune_store

    raise typer.Exit(autotune_store.prune(devices))


@app.command()
def verify() -> None:
    """Check the store: the file, each row, and that each choice is legal."""
    from tgrad.cli import autotune_store

    raise typer.Exit(autotune_store.verify())
