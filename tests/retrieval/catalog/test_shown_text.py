import pytest

from retrieval.catalog import Catalog, FileEntry, FileUpdate, ItemEntry
from retrieval.filters import Filter
from retrieval.media import MediaKind, Modality
from retrieval.recognition.base import Recognized, Segment, Task

SPACE = "space"
FOUND = Recognized([Segment("STOP", 0.9)])


@pytest.fixture
def catalog(new_location, tmp_path):
    catalog = Catalog(new_location(tmp_path))
    catalog.migrate()
    yield catalog
    catalog.close()


def parts(catalog: Catalog, *, has_text: bool) -> set[str]:
    """Return what passes the filter, as path and part."""
    found: dict[int, str] = {}
    with catalog.snapshot() as snapshot:
        for modality in (Modality.IMAGE, Modality.TEXT):
            table = snapshot.item_table(SPACE, modality)
            passes = snapshot.passing(SPACE, modality, table, Filter(has_text=has_text))
            items = snapshot.items_at(SPACE, modality, table.rows[passes].tolist())
            found |= {item.id: f"{item.path} {item.part}".strip() for [item] in items.values()}
        listed = snapshot.items(SPACE, where=Filter(has_text=has_text), limit=100)
    assert {item.id for item in listed} == found.keys()
    return set(found.values())


def record(catalog: Catalog, updates: list[FileUpdate], images: int, texts: int) -> None:
    with catalog.transaction() as transaction:
        transaction.extend_rows(SPACE, Modality.IMAGE, 0, images)
        transaction.extend_rows(SPACE, Modality.TEXT, 0, texts)
        transaction.record_files(SPACE, updates)


def test_pictures_pages_and_texts_pass_by_what_they_show(catalog):
    def file(path: str, kind: MediaKind, *items: ItemEntry) -> FileUpdate:
        return FileUpdate(FileEntry(path, kind, 1, 1, path), list(items))

    image, text = Modality.IMAGE, Modality.TEXT
    updates = [
        file("/sign", MediaKind.IMAGE, ItemEntry(image, 0)),
        file("/sea", MediaKind.IMAGE, ItemEntry(image, 1)),
        file("/failed", MediaKind.IMAGE, ItemEntry(image, 2)),
        file(
            "/pages",
            MediaKind.DOCUMENT,
            ItemEntry(image, 3, "p1", page=1),
            ItemEntry(image, 4, "p2", page=2),
            ItemEntry(image, 5, "p3", page=3),
            ItemEntry(text, 0, "p1t0", page=1, text="of its own"),
        ),
        file("/note", MediaKind.TEXT, ItemEntry(text, 1, "t0", text="a note")),
        file(
            "/film",
            MediaKind.VIDEO,
            ItemEntry(image, 6, "f0"),
            ItemEntry(image, 7, "f1"),
            ItemEntry(text, 2, "f0-caption0", text="a sign"),
            ItemEntry(text, 3, "f1-caption0", text="a lake"),
            ItemEntry(text, 4, "-speech0", text="hello"),
        ),
        file(
            "/copied",
            MediaKind.IMAGE,
            ItemEntry(image, 8),
            ItemEntry(text, 5, "-ocr0", text="EXIT"),
        ),
    ]
    record(catalog, updates, images=9, texts=6)
    with catalog.transaction() as transaction:
        keys = {"/sign": FOUND, "/sea": Recognized(), "/pages-p2": FOUND, "/film-f0": FOUND}
        keys["/failed"] = Recognized(failure="it is broken")
        transaction.record_enrichments(Task.OCR, "model", keys)
        transaction.record_enrichments(Task.CAPTION, "model", {"/sea": FOUND})
        transaction.record_enrichments(Task.SPEECH, "model", {"/film": FOUND})
    shown = parts(catalog, has_text=True)
    assert shown == {
        *("/sign", "/pages p1", "/pages p2", "/pages p1t0", "/note t0", "/film f0"),
        *("/film f0-caption0", "/copied", "/copied -ocr0"),
    }
    others = parts(catalog, has_text=False)
    assert others == {
        *("/sea", "/failed", "/pages p3", "/film f1", "/film f1-caption0", "/film -speech0"),
    }


def test_a_new_find_changes_what_passes(catalog):
    update = FileUpdate(FileEntry("/a", MediaKind.IMAGE, 1, 1, "a"), [ItemEntry(Modality.IMAGE, 0)])
    record(catalog, [update], images=1, texts=0)
    assert parts(catalog, has_text=True) == set()
    with catalog.transaction() as transaction:
        transaction.record_enrichments(Task.OCR, "model", {"a": FOUND})
    assert parts(catalog, has_text=True) == {"/a"}
