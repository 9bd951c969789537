"""The HTTP service: the application, its routes and schemas, and the page."""
