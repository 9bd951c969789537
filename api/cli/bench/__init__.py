"""`mmsearch bench`: one module per command or group of commands."""
