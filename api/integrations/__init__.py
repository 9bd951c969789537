"""Retrievers of other frameworks, each over a library or a service."""
