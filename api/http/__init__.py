"""HTTP service: application, routes, schemas, middleware and web page."""
