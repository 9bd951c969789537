"""Full-text search over captions, file names and chunks of text."""
