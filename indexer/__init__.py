"""From folders to a library: what is there, what changed, and its vectors."""
