"""Measure generated captions and answers against those of people."""
