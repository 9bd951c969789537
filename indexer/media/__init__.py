"""What can be read: one module a family of formats, each a function from a file to its pieces."""
