"""Command line `mmsearch`: one module per command or group of commands."""

import sys
from typing import Any


def main() -> None:
    """Run the command line: in a worker of a running service, or in this process."""
    from api.resident.launcher import run_in_worker

    status = run_in_worker(sys.argv)
    if status is not None:
        sys.exit(status)
    from api.cli.program import main as run

    run()


def __getattr__(name: str) -> Any:
    """Import the program when its `app` is asked for, not before a worker is."""
    if name == "app":
        from api.cli.program import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
