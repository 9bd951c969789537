"""What the parts of a library take on disk."""

from retrieval.integrity.storage import measure_storage
from retrieval.library import create_library


def test_every_file_counts_once_in_its_part(tmp_path, tiny_encoder):
    library = create_library(tmp_path / "library", tiny_encoder.space)
    before = measure_storage(library)
    space = library.space_directory(tiny_encoder.space)
    for path, size in {
        space / "image.f16": 1000,
        space / "image.xxh3": 100,
        space / "image-1.faiss": 2000,
        library.thumbnails / "ab" / "picture.webp": 30,
        library.path / "tokens" / "blip" / "ab" / "one.tokens": 4,
        library.path / "notes.txt": 7,
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    after = measure_storage(library)
    grown = {name: size - getattr(before, name) for name, size in vars(after).items()}
    assert grown == {
        "catalog": 0,
        "embeddings": 1100,
        "indices": 2000,
        "thumbnails": 30,
        "token_cache": 4,
        "other": 7,
    }
    assert before.catalog > 0
    assert after.total == sum(
        path.stat().st_size for path in library.path.rglob("*") if path.is_file()
    )


def test_a_link_is_not_followed(tmp_path, tiny_encoder):
    library = create_library(tmp_path / "library", tiny_encoder.space)
    before = measure_storage(library)
    (tmp_path / "large").write_bytes(b"x" * 10_000)
    (library.thumbnails / "link").symlink_to(tmp_path / "large")
    assert measure_storage(library) == before
