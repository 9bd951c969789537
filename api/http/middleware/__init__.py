"""Who may ask what of the service, and how much: one defence a module."""
