"""The console script `tgrad`.

In: the command line. Out: an exit status. Invariant: the commands are in commands.py; where the
packages that they need are absent, one line says what to install.
"""

from __future__ import annotations

import sys

NEEDS = "tgrad: the command line needs the packages typer and rich.\n  pip install 'tgrad[cli]'"


def main() -> None:
    """Run the command that the command line names."""
    try:
        from tgrad.cli.commands import app
    except ImportError:
        sys.exit(NEEDS)
    app()


if __name__ == "__main__":
    main()
