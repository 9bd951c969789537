"""Command line `mmsearch`: one module per command or group of commands."""

from api.cli.program import app, main

__all__ = ["app", "main"]
