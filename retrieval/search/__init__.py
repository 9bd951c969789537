"""The way of a query: from its parts over candidates and reranking to ordered hits."""
