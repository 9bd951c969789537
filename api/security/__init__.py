"""Who may ask what of the service, and how much: one defence a module."""

from api.security.access import require

__all__ = ["require"]
