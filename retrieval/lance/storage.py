"""What a library in Lance takes: the table in its store, and its caches on this machine."""

from retrieval.integrity.storage import Storage, size_of_folder
from retrieval.lance.library import table_of
from retrieval.library import Library

_BYTES_A_VALUE = 2


def measure_table(library: Library) -> Storage:
    """Add up the sizes of a version of a table, as it says itself, and of the caches.

    embeddings: the vectors as they are, the codes of indices not. catalog: all else of the rows.
    """
    table = table_of(library)
    with table.errors():
        files = [file for one in table.dataset.get_fragments() for file in one.data_files()]
        indices = sum(one.total_size_bytes or 0 for one in table.dataset.describe_indices())
    rows = sum(file.file_size_bytes or 0 for file in files)
    vectors = min(rows, table.count() * table.space.dimension * _BYTES_A_VALUE)
    return Storage(
        catalog=rows - vectors,
        embeddings=vectors,
        indices=indices,
        thumbnails=size_of_folder(library.thumbnails),
        token_cache=size_of_folder(library.tokens.folder),
    )
