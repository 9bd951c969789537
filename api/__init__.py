"""The ways in: the command line and the HTTP service. Only here is anything printed."""
