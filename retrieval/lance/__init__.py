"""Libraries as one Lance table each, in a folder or in object storage.

A row is an item: its vector, and all that is known of it and its file. A commit is atomic, a
version of the table never changes, and several writers may commit at once. The only package that
imports Lance, but for plain vectors in files (`indexer.vectors.files`).
"""
