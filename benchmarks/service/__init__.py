"""How the HTTP service holds under load."""
