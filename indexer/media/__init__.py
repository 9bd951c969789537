"""Read files: one module for each family of formats, a function from a file to its pieces."""
