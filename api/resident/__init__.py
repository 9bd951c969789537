"""A service that runs for a library answers the terminal, too, through a Unix socket."""
