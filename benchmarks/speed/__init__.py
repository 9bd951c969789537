"""How fast indexing and reranking are, and what memory they take."""
