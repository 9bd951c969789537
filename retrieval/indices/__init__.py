"""Vector engines propose candidates over the embeddings. The only package that imports faiss."""
