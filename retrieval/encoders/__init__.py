"""Dual encoders: the protocol, open_clip's models, the built-in starter."""
