"""Rerankers: models that score a text and an image together."""
