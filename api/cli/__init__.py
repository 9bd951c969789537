"""The command line: `mmsearch`, a command or a group of them a module."""

from api.cli.program import app, main

__all__ = ["app", "main"]
