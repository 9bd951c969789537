"""Enrichment: the pass after embedding that adds what recognisers find in pictures and speech."""
