"""The commands and their arguments.

In: the command line. Out: an exit status. Invariant: the work is in explain.py and doctor.py; a
command that fails for a reason the user can mend prints that reason and no traceback.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

NEEDS = "tgrad: the command line needs the packages typer and rich.\n  pip install 'tgrad[cli]'"
PASS_ON = {"ignore_unknown_options": True}
"""Options that are not ours belong to the script."""


def make_app() -> typer.Typer:
    """The command line as a typer application.

    Raises:
        ImportError: typer is not installed.
    """
    import typer

    app = typer.Typer(
        help="tgrad: a lazy tensor framework whose compiler you can read in a day.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )

    @app.command(context_settings=PASS_ON)
    def explain(
        script: Path = typer.Argument(help="The Python program to run.", show_default=False),
        arguments: list[str] = typer.Argument(
            None, help="Its own arguments; after -- they may be any.", show_default=False
        ),
        source: bool = typer.Option(False, "--source", help="Print the generated code too."),
        every: bool = typer.Option(False, "--all", help="Every plan, not only the largest."),
        json: Path = typer.Option(
            None, "--json", help="Write the same as data to this file.", show_default=False
        ),
    ) -> None:
        """Run SCRIPT and show the plan with the most FLOPs: its kernels, lines, FLOPs, bytes."""
        from tgrad.cli.explain import explain_script

        raise typer.Exit(explain_script(script, arguments or [], source, every, json))

    @app.command()
    def doctor() -> None:
        """Show what tgrad finds on this machine, and what to do about what is missing."""
        from tgrad.cli.doctor import print_report

        raise typer.Exit(print_report())

    return app


def main() -> None:
    """The console script `tgrad`."""
    try:
        app = make_app()
    except ImportError:
        sys.exit(NEEDS)
    app()


if __name__ == "__main__":
    main()
