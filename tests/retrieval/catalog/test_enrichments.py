"""What recognisers found, in each database: words, passages, counts, and what becomes of them."""

import pytest
import sqlalchemy as sa

from retrieval.catalog import FileEntry, FileUpdate, ItemEntry
from retrieval.catalog.records import found_in_part, found_part, picture_part
from retrieval.catalog.schema import EnrichmentRecord
from retrieval.errors import DamagedLibraryError
from retrieval.media import MediaKind, Modality
from retrieval.recognition.base import Recognized, Segment, Task

SPACE = "space"
BOX = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.0, 0.5))


def found(*texts: str) -> Recognized:
    return Recognized([Segment(text, 0.9, BOX) for text in texts])


def a_file(path: str, content: str, kind: MediaKind = MediaKind.IMAGE) -> FileEntry:
    return FileEntry(path, kind, 10, 20, content)


@pytest.fixture
def record(catalog):
    """Record files with pictures: path, content, kind and the parts of its pictures."""
    rows = iter(range(1000))

    def record(
        path, content, kind=MediaKind.IMAGE, parts=("",), pages=(None,), texts=(), spans=None
    ):
        with catalog.transaction() as transaction:
            items = []
            times = spans or [(None, None) for _ in parts]
            for part, page, (start_s, end_s) in zip(parts, pages, times, strict=True):
                row = next(rows)
                transaction.extend_rows(SPACE, Modality.IMAGE, row, 1)
                place = {"time_s": start_s, "start_s": start_s, "end_s": end_s}
                items.append(ItemEntry(Modality.IMAGE, row, part, 8, 8, page, **place))
            for page, text in texts:
                row = transaction.row_count(SPACE, Modality.TEXT)
                transaction.extend_rows(SPACE, Modality.TEXT, row, 1)
                items.append(ItemEntry(Modality.TEXT, row, f"p{page}", page=page, text=text))
            transaction.record_files(SPACE, [FileUpdate(a_file(path, content, kind), items)])

    return record


def enrich(catalog, task, keys, model="m/1"):
    with catalog.transaction() as transaction:
        transaction.record_enrichments(task, model, keys)


def passages(catalog, task, path, content, origin, texts, time_s=None):
    with catalog.transaction() as transaction:
        first = transaction.row_count(SPACE, Modality.TEXT)
        transaction.extend_rows(SPACE, Modality.TEXT, first, len(texts))
        entries = [
            ItemEntry(
                Modality.TEXT, first + n, found_part(origin, task, n), text=text, time_s=time_s
            )
            for n, text in enumerate(texts)
        ]
        transaction.record_passages(SPACE, task, {(path, origin): (content, entries)})


def matches(catalog, text, modality=Modality.IMAGE):
    with catalog.snapshot() as snapshot:
        rows = [row for row, _ in snapshot.text_matches(SPACE, modality, text, limit=10)]
        at = snapshot.items_at(SPACE, modality, rows)
    return sorted((item.path, item.part) for items in at.values() for item in items)


def missing(catalog, task, **options):
    with catalog.snapshot() as snapshot:
        items = snapshot.pictures_to_enrich(SPACE, task, limit=100, **options)
        assert snapshot.count_to_enrich(SPACE, task, **options) == len(
            {item.picture_key for item in items}
        )
    return [item.path + item.part for item in items]


def test_parts_of_found_texts():
    assert found_part("p3", Task.OCR, 120) == "p3-ocr120"
    assert found_in_part("p3-ocr120") == ("p3", Task.OCR)
    assert found_in_part("-speech12480") == ("", Task.SPEECH)
    assert found_in_part("t12480") == ("t12480", None)
    assert picture_part("t5-caption0") == "t5"
    assert picture_part("-speech12480") == "-speech12480"


def test_found_words_are_those_of_the_picture_and_its_copies(catalog, record):
    record("/a.png", "aa")
    record("/b.png", "bb")
    record("/copy.png", "aa")
    enrich(catalog, Task.OCR, {"aa": found("Supermarket receipt", "收据 合计")})
    assert matches(catalog, "receipt") == [("/a.png", ""), ("/copy.png", "")]
    assert matches(catalog, "合计") == [("/a.png", ""), ("/copy.png", "")]
    # Also of a copy that comes later, and when the words of the file are written again.
    record("/later.png", "aa")
    with catalog.transaction() as transaction:
        transaction.record_touched([a_file("/a.png", "aa")])
        transaction.move_file("/copy.png", "/moved.png")
    assert matches(catalog, "receipt") == [("/a.png", ""), ("/later.png", ""), ("/moved.png", "")]


def test_a_changed_file_says_no_more_what_it_said(catalog, record):
    record("/a.png", "aa")
    enrich(catalog, Task.OCR, {"aa": found("receipt")})
    passages(catalog, Task.OCR, "/a.png", "aa", "", ["receipt"])
    assert matches(catalog, "receipt", Modality.TEXT) == [("/a.png", "-ocr0")]
    record("/a.png", "cc")
    assert matches(catalog, "receipt") == matches(catalog, "receipt", Modality.TEXT) == []
    assert missing(catalog, Task.OCR) == ["/a.png"]
    record("/a.png", "aa")  # it comes back
    assert matches(catalog, "receipt") == [("/a.png", "")]
    assert missing(catalog, Task.OCR) == []
    with catalog.snapshot() as snapshot:
        [(_, item, *_)] = snapshot.without_passages(SPACE, Task.OCR, limit=9)
    assert item.path == "/a.png"


def test_speech_is_that_of_its_file(catalog, record):
    record("/v.mp4", "vv", MediaKind.VIDEO, ("t0", "t5000"), (None, None))
    record("/i.png", "ii")
    with catalog.snapshot() as snapshot:
        assert [f.path for f in snapshot.files_to_enrich(Task.SPEECH, limit=9)] == ["/v.mp4"]
    said = Recognized([Segment("good morning everybody", None, None, 2.0, 4.5)])
    enrich(catalog, Task.SPEECH, {"vv": said})
    assert matches(catalog, "everybody") == [("/v.mp4", "t0")]  # its first picture stands for it
    with catalog.snapshot() as snapshot:
        assert snapshot.count_to_enrich(SPACE, Task.SPEECH) == 0
        [(_, item, path, content, segments)] = snapshot.without_passages(
            SPACE, Task.SPEECH, limit=9
        )
        assert (item, path, content, segments) == (None, "/v.mp4", "vv", said.segments)
    passages(catalog, Task.SPEECH, "/v.mp4", "vv", "", ["good morning everybody"], time_s=2.0)
    assert matches(catalog, "everybody", Modality.TEXT) == [("/v.mp4", "-speech0")]
    with catalog.snapshot() as snapshot:
        assert snapshot.without_passages(SPACE, Task.SPEECH, limit=9) == []
        [frame, *_] = snapshot.items(SPACE, limit=9)
        assert [one.text for one in snapshot.enrichments_of(frame)] == ["good morning everybody"]


def test_lines_are_words_of_the_shot_in_which_they_begin(catalog, record):
    shots = {"parts": ("t0", "t5000"), "pages": (None, None), "spans": [(0.0, 5.0), (5.0, 9.0)]}
    record("/v.mp4", "vv", MediaKind.VIDEO, **shots)
    lines = [("morning", 1.0), ("noon", 4.9), ("evening", 5.0), ("credits", 20.0), ("ever", None)]
    said = Recognized([Segment(text, None, None, start, start) for text, start in lines])
    enrich(catalog, Task.SPEECH, {"vv": said})
    record("/copy.mp4", "vv", MediaKind.VIDEO, **shots)
    of_each = {text: [part for _, part in matches(catalog, text)] for text, _ in lines}
    assert of_each == {
        "morning": ["t0", "t0"],
        "noon": ["t0", "t0"],
        "evening": ["t5000", "t5000"],
        "credits": ["t0", "t0"],  # of the file, which its first picture stands for
        "ever": ["t0", "t0"],
    }
    enrich(catalog, Task.SPEECH, {"vv": Recognized([Segment("dusk", None, None, 6.0, 7.0)])})
    assert matches(catalog, "morning") == matches(catalog, "credits") == []
    assert [part for _, part in matches(catalog, "dusk")] == ["t5000", "t5000"]
    with catalog.transaction() as transaction:
        transaction.forget_enrichments(Task.SPEECH)
    assert matches(catalog, "dusk") == []


def test_pages_with_a_text_of_their_own_are_not_for_ocr_and_none_gets_a_caption(catalog, record):
    record("/d.pdf", "dd", MediaKind.DOCUMENT, ("p1", "p2"), (1, 2), texts=[(1, "a letter")])
    assert missing(catalog, Task.OCR) == ["/d.pdfp2"]
    assert missing(catalog, Task.CAPTION) == []


def test_what_failed_and_what_another_model_has_looked_at_are_asked_for(catalog, record):
    for name in "abc":
        record(f"/{name}.png", 2 * name)
    enrich(catalog, Task.OCR, {"aa": found("x"), "bb": Recognized(failure="too dark")})
    assert missing(catalog, Task.OCR) == ["/c.png"]
    assert missing(catalog, Task.OCR, retry_failed=True) == ["/b.png", "/c.png"]
    assert missing(catalog, Task.OCR, model="m/1") == ["/c.png"]
    assert missing(catalog, Task.OCR, model="m/2") == ["/a.png", "/b.png", "/c.png"]
    with catalog.snapshot() as snapshot:
        [later, _] = snapshot.pictures_to_enrich(SPACE, Task.OCR, model="m/2", after=1, limit=9)
    assert later.path == "/b.png"
    with catalog.snapshot() as snapshot:
        counts = snapshot.enrichment_counts()
    assert list(counts) == [Task.OCR]
    told = counts[Task.OCR]
    assert (told.looked_at, told.with_text, told.failed, told.models) == (2, 1, 1, ["m/1"])


def test_other_texts_take_the_place_of_earlier_ones(catalog, record):
    record("/a.png", "aa")
    enrich(catalog, Task.OCR, {"aa": found("old words")})
    passages(catalog, Task.OCR, "/a.png", "aa", "", ["old", "words"])
    enrich(catalog, Task.OCR, {"aa": found("new")}, "m/2")
    assert matches(catalog, "old") == matches(catalog, "words", Modality.TEXT) == []
    passages(catalog, Task.OCR, "/a.png", "aa", "", ["new"])
    assert matches(catalog, "new", Modality.TEXT) == [("/a.png", "-ocr0")]
    passages(catalog, Task.OCR, "/a.png", "aa", "", [])
    assert matches(catalog, "new", Modality.TEXT) == []


def test_passages_of_a_file_that_has_changed_meanwhile_are_not_recorded(catalog, record):
    record("/a.png", "aa")
    passages(catalog, Task.OCR, "/a.png", "bb", "", ["late"])
    passages(catalog, Task.OCR, "/gone.png", "aa", "", ["late"])
    assert matches(catalog, "late", Modality.TEXT) == []


def test_a_hidden_picture_hides_its_texts(catalog, record):
    record("/a.png", "aa")
    with catalog.transaction() as transaction:
        [item] = transaction.items(SPACE, limit=9)
        transaction.hide_items([item.id])
    passages(catalog, Task.OCR, "/a.png", "aa", "", ["receipt"])
    assert matches(catalog, "receipt", Modality.TEXT) == []
    with catalog.transaction() as transaction:
        transaction.unhide_items([item.id])
    assert matches(catalog, "receipt", Modality.TEXT) == [("/a.png", "-ocr0")]
    with catalog.transaction() as transaction:
        assert transaction.hide_items([item.id]) == 2


def test_a_task_is_forgotten(catalog, record):
    record("/a.png", "aa")
    record("/v.mp4", "vv", MediaKind.VIDEO, ("t0",))
    enrich(catalog, Task.OCR, {"aa": found("receipt")})
    enrich(catalog, Task.SPEECH, {"vv": found("good morning")})
    passages(catalog, Task.OCR, "/a.png", "aa", "", ["receipt"])
    with catalog.transaction() as transaction:
        transaction.forget_enrichments(Task.OCR)
    assert matches(catalog, "receipt") == matches(catalog, "receipt", Modality.TEXT) == []
    assert matches(catalog, "morning") == [("/v.mp4", "t0")]
    with catalog.transaction() as transaction:
        transaction.forget_enrichments(Task.SPEECH)
        assert transaction.enrichment_counts() == {}
    assert matches(catalog, "morning") == []


def test_of_damaged_vectors_the_passages_of_a_whole_text_are_made_again(catalog, record):
    record("/v.mp4", "vv", MediaKind.VIDEO, ("t0",))
    enrich(catalog, Task.SPEECH, {"vv": found("good", "morning")})
    passages(catalog, Task.SPEECH, "/v.mp4", "vv", "", ["good", "morning"])
    with catalog.transaction() as transaction:
        assert transaction.without_passages(SPACE, Task.SPEECH, limit=9) == []
        transaction.forget_vectors(SPACE, Modality.TEXT, [1])
        [(_, _, path, _, _)] = transaction.without_passages(SPACE, Task.SPEECH, limit=9)
    assert path == "/v.mp4"
    assert matches(catalog, "good") == [("/v.mp4", "t0")]


def test_damaged_segments_are_told_as_damage(catalog, record):
    record("/a.png", "aa")
    enrich(catalog, Task.OCR, {"aa": found("x")})
    with catalog.dialect.connect(write=True) as connection:
        connection.execute(sa.update(EnrichmentRecord).values(segments=[{"text": 5}]))
    with catalog.snapshot() as snapshot, pytest.raises(DamagedLibraryError, match="damaged"):
        snapshot.enrichments(Task.OCR, ["aa"])
