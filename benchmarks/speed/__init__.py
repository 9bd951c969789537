"""Speed and memory of indexing and reranking."""
