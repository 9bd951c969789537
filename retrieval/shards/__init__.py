"""A library in several shards, by the hash of contents, searched together with exact scores."""
