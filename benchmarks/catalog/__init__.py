"""Speed of the catalog: filters, facets and words of a large library."""
