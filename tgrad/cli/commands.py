"""The commands and their arguments.

In: the command line, as typer parses it. Out: an exit status. Invariant: the work is in explain.py,
kernels.py, profile.py, check.py, cache.py and doctor.py, imported by the command that needs it.
"""

from __future__ import annotations

from pathlib import Path

import typer

from tgrad.cli import autotune_commands

PASS_ON = {"ignore_unknown_options": True}
"""Options that are not ours belong to the script."""
OWN_ARGUMENTS = "Its own arguments; after -- they may be any."

app = typer.Typer(
    help="tgrad: a lazy tensor framework whose compiler you can read in a day.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


app.add_typer(autotune_commands.app, name="autotune")


@app.command(context_settings=PASS_ON)
def explain(
    script: Path = typer.Argument(help="The Python program.", show_default=False),
    arguments: list[str] = typer.Argument(None, help=OWN_ARGUMENTS, show_default=False),
    target: str = typer.Option(
        None, help="Plan for this: sm_90, gfx942, cpu, ... It need not be there."
    ),
    memory_limit: str = typer.Option(
        None, metavar="SIZE", help="Say whether the plan fits, for example 8GiB."
    ),
    plans: int = typer.Option(
        None, min=1, help="Stop after so many plans, not at the first optimizer step."
    ),
    processes: int = typer.Option(
        None, min=1, help="Plan as the first of so many that torchrun would start."
    ),
    run: bool = typer.Option(False, "--run", help="Really run it, to its end."),
    every: bool = typer.Option(False, "--all", help="Every plan, not only the largest."),
    source: bool = typer.Option(False, "--source", help="Print the generated code too."),
    compile: bool = typer.Option(
        True, help="Compile for a GPU target: registers, shared memory, spills."
    ),
    json: Path = typer.Option(None, metavar="FILE", help="Write the same as data."),
    html: Path = typer.Option(None, metavar="FILE", help="Write the same as a page."),
) -> None:
    """Show what SCRIPT will run, without running it: kernels, times, memory.

    Plans are made and no kernel runs; values are zeros. The script is stopped at the first plan
    that holds an optimizer's step; without an optimizer it runs to its end.
    """
    from tgrad.cli.explain import Request, explain_script
    from tgrad.settings import parse_size

    try:
        limit = None if memory_limit is None else parse_size(memory_limit)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--memory-limit") from None
    request = Request(
        target=target, limit=limit, most=plans, really=run, every=every, source=source,
        compiled=compile, json_path=json, html_path=html, processes=processes,
    )  # fmt: skip
    raise typer.Exit(explain_script(script, arguments or [], request))


@app.command(context_settings=PASS_ON)
def profile(
    script: Path = typer.Argument(help="The Python program to run.", show_default=False),
    arguments: list[str] = typer.Argument(None, help=OWN_ARGUMENTS, show_default=False),
    every: bool = typer.Option(
        False, "--all", help="Every plan, not only the one with the most work."
    ),
    trace: Path = typer.Option(
        None, metavar="FILE", help="Write the launches as a Chrome or Perfetto trace."
    ),
) -> None:
    """Run SCRIPT and show the measured time of each kernel beside the predicted one."""
    from tgrad.cli.profile import profile_script

    raise typer.Exit(profile_script(script, arguments or [], every, trace))


@app.command(context_settings=PASS_ON)
def kernels(
    script: Path = typer.Argument(help="The Python program.", show_default=False),
    arguments: list[str] = typer.Argument(None, help=OWN_ARGUMENTS, show_default=False),
    target: str = typer.Option(..., help="Compile for this GPU: sm_90, gfx942, ..."),
    every: bool = typer.Option(False, "--all", help="Of every plan, not only the largest."),
    json: Path = typer.Option(None, metavar="FILE", help="Write the rows as data too."),
) -> None:
    """Compile the kernels of SCRIPT for a GPU that need not be there, and judge them.

    A row a kernel: registers, spills, shared memory, matrix instruction, widest load,
    asynchronous copies, and where its source is.
    """
    from tgrad.cli.kernels import kernels_of_script

    raise typer.Exit(kernels_of_script(script, arguments or [], target, every, json))


@app.command(context_settings=PASS_ON)
def check(
    script: Path = typer.Argument(help="The Python program to run.", show_default=False),
    arguments: list[str] = typer.Argument(None, help=OWN_ARGUMENTS, show_default=False),
    steps: int = typer.Option(
        2, min=0, help="Training steps after which it is stopped; 0: run it to its end."
    ),
    every: bool = typer.Option(
        False, "--all", help="Check every launch, not each different kernel of a plan once."
    ),
    repeat: int = typer.Option(
        2, min=1, help="Runs of each kernel on the same inputs, which must give the same bits."
    ),
    json: Path = typer.Option(None, metavar="FILE", help="Write the launches as data too."),
) -> None:
    """Run SCRIPT and compare each of its kernels with the CPU: which one is wrong, and where.

    A kernel is judged by what it makes of the inputs that it gets, so what was wrong before it
    does not count. Exit status 1 where one is wrong.
    """
    from tgrad.cli.check import CheckRequest, check_script

    request = CheckRequest(steps, every, repeat, json)
    raise typer.Exit(check_script(script, arguments or [], request))


@app.command()
def cache(
    unused_for: float = typer.Option(
        None, min=0, metavar="DAYS", help="Delete what was not used for so long; 0: everything."
    ),
) -> None:
    """Show what the cache directory holds; delete plans and kernels that are made again anyway.

    What `tgrad autotune` measured stays.
    """
    from tgrad.cli.cache import print_cache

    raise typer.Exit(print_cache(unused_for))


@app.command()
def doctor() -> None:
    """Show what tgrad finds on this machine, and what to do about what is missing."""
    from tgrad.cli.doctor import print_report

    raise typer.Exit(print_report())
