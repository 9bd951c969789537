"""A catalog in a schema of a PostgreSQL database (13 or newer, encoding UTF-8)."""
