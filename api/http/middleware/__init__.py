"""Access control and limits of the service: one defence per module."""
