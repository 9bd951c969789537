"""Rerankers: models that see a text and an image together and say how well they match."""
