"""Whether a library is whole: checks, checksums of old rows, backups."""
