"""Vector engines propose candidates over the embeddings. The only package that imports faiss."""


def faiss_version() -> str:
    """Version of the FAISS library in use."""
    import faiss

    return str(faiss.__version__)
