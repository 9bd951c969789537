import os

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from retrieval.catalog import Catalog, FailedFile, FileEntry, FileUpdate, ItemEntry
from retrieval.catalog.fulltext.words import indexed, terms
from retrieval.filters import Filter
from retrieval.media import MediaKind, Metadata, Modality

SPACE = "space"


class Library:
    """A catalog into which files are put one by one."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        with catalog.transaction() as transaction:
            transaction.add_sources({"/": None})
        self.ends = dict.fromkeys(Modality, 0)

    def add(self, path, kind=MediaKind.IMAGE, *items, said=(), content=None, **metadata) -> None:
        """Items: of (modality, text, columns); an image by default."""
        items = items or ((Modality.IMAGE, None, None),)
        with self.catalog.transaction() as transaction:
            read = []
            for place, (modality, text, columns) in enumerate(items):
                row = self.ends[modality]
                transaction.extend_rows(SPACE, modality, row, 1)
                self.ends[modality] += 1
                read.append(ItemEntry(modality, row, f"p{place}", text=text, columns=columns))
            file = FileEntry(path, kind, 10, 1, content or path, Metadata(**metadata))
            transaction.record_files(SPACE, [FileUpdate(file, read, annotations=said)])

    def add_pictures(self, paths) -> None:
        """Many at once."""
        first_row = self.ends[Modality.IMAGE]
        updates = [
            FileUpdate(
                FileEntry(path, MediaKind.IMAGE, 10, 1, path), [ItemEntry(Modality.IMAGE, row)]
            )
            for row, path in enumerate(paths, start=first_row)
        ]
        self.ends[Modality.IMAGE] += len(updates)
        with self.catalog.transaction() as transaction:
            transaction.extend_rows(SPACE, Modality.IMAGE, first_row, len(updates))
            transaction.record_files(SPACE, updates)

    def find(self, text, modality=Modality.IMAGE, limit=10, **options) -> list[str]:
        """Paths and parts of what is found, best first."""
        with self.catalog.snapshot() as snapshot:
            found = snapshot.text_matches(SPACE, modality, text, limit=limit, **options)
            items = snapshot.items_at(SPACE, modality, [row for row, _ in found])
        scores = [score for _, score in found]
        assert scores == sorted(scores, reverse=True)
        assert all(score > 0 for score in scores)
        return [_name(item) for row, _ in found for item in items[row]]

    def telling(self, text, modality=Modality.IMAGE, **options) -> dict[str, float]:
        """Shares of the query's words, by path and part."""
        with self.catalog.snapshot() as snapshot:
            found = snapshot.telling_matches(SPACE, modality, text, **options)
            items = snapshot.items_at(SPACE, modality, [match.row for match in found])
        assert all(match.score > 0 for match in found)
        assert all(0 < match.share <= 1 for match in found)
        return {_name(item): match.share for match in found for item in items[match.row]}


def _name(item) -> str:
    return item.path if item.part in {"", "p0"} else f"{item.path}#{item.part}"


@pytest.fixture
def library(catalog):
    return Library(catalog)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Two dogs on the beach", "DOGS"),
        ("Café Müller", "cafe muller"),
        ("cafe", "CAFE\u0301"),
        ("Straße", "strasse"),
        ("Ёлка", "елка"),
        ("Ὀδυσσεύς", "οδυσσευς"),
        ("ｆｕｌｌ１", "full"),
        ("一只狗在海滩上", "海滩"),
        ("一只狗在海滩上", "狗"),
        ("一只狗在海滩上", "海滩的狗在海滩"),
        ("一隻狗在海灘上", "海滩"),
        ("小明的生日会", "小明生日"),
        ("receipt", "receipts"),
        ("Katzen", "Katze"),
        ("O'Neil", "oneil"),
        ("20190704_1", "2019-07-04"),
        ("2019-07-04", "20190704"),
        ("starbucks", "starbu"),
        ("東京タワー", "タワー"),
        ("ｶﾀｶﾅ", "カタ"),
        ("강아지가 뛴다", "강아지"),
        ("แมวสีดำ", "สีดำ"),
        ("नमस्ते दुनिया", "दुनिया"),
        ("שָׁלוֹם", "שלום"),
        ("IMG_2023-beach", "img beach"),
        ("HTMLParser", "parser"),
        ("iPhone", "iphone"),
        ("beach2019", "beach2019"),
        ("beach2019", "2019"),
        ("seaSide", "sea side"),
        ("beach", "bea"),
    ],
)
def test_words_of_any_script_are_found(library, text, query):
    library.add("/a.jpg", text=text)
    library.add("/b.jpg", text="something else 别的 다른")
    assert library.find(query) == ["/a.jpg"]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("海边的滩", "海滩"),
        ("beach", "be"),
        ("beach", "bea "),
        ("beach", "each"),
        ("กขคง", "ขก"),
    ],
)
def test_what_only_looks_alike_is_not_found(library, text, query):
    library.add("/a.jpg", text=text)
    assert library.find(query) == []


def test_every_kind_of_words_is_found(library):
    library.add("/holidays/IMG_1.jpg", text="A lighthouse", camera="Canon EOS R5")
    library.add(
        "/t.csv",
        MediaKind.TABLE,
        (Modality.TEXT, "A passage", {"tags": ["windy", 3]}),
        said=[("/holidays/IMG_1.jpg", {"caption": {"en": ["stormy"]}})],
    )
    for query in ("holidays", "img", "lighthouse", "canon", "stormy"):
        assert library.find(query) == ["/holidays/IMG_1.jpg"], query
    for query in ("passage", "windy", "t"):
        assert library.find(query, Modality.TEXT) == ["/t.csv"], query
        assert library.find(query) == []
    for query in ("jpg", "csv"):
        assert library.find(query) == library.find(query, Modality.TEXT) == []


def test_what_was_written_of_a_picture_counts_more_than_its_name(library):
    library.add("/beach.jpg", text="two dogs")
    library.add("/x.jpg", text="two dogs on a beach")
    library.add("/beach/y.jpg", text="two dogs")
    library.add("/z.jpg", text="two cats")
    assert library.find("beach") == ["/x.jpg", "/beach.jpg", "/beach/y.jpg"]


def test_the_whole_word_comes_before_one_that_only_begins_with_it(library):
    library.add("/a.jpg", text="a carpet on a wall")
    library.add("/b.jpg", text="a car on a wall")
    assert library.find("car") == ["/b.jpg", "/a.jpg"]
    assert library.find("car ") == ["/b.jpg"]


def test_words_may_be_those_of_the_item_and_of_its_file(library):
    library.add(
        "/report.txt",
        MediaKind.TEXT,
        (Modality.TEXT, "rain in spring", None),
        (Modality.TEXT, "rain in autumn", None),
    )
    library.add("/notes.txt", MediaKind.TEXT, (Modality.TEXT, "rain", None))
    found = library.find("report spring", Modality.TEXT)
    assert found == ["/report.txt"]
    assert library.find("report winter", Modality.TEXT) == ["/report.txt"]
    told = library.telling("report spring", Modality.TEXT)
    assert told == {"/report.txt": pytest.approx(1)}
    assert library.telling("spring report", Modality.TEXT) == told


def test_a_name_brings_one_frame_and_not_a_thousand(library):
    library.add("/trip.mp4", MediaKind.VIDEO, *[(Modality.IMAGE, None, None)] * 1000)
    library.add("/trip.jpg")
    assert sorted(library.find("trip", limit=100)) == ["/trip.jpg", "/trip.mp4"]


def test_only_what_passes_the_filter_is_found(library):
    library.add_pictures(f"/a/beach {number}.jpg" for number in range(1200))
    library.add("/b/beach far away.jpg", camera="Canon")
    assert library.find("beach", where=Filter(camera="canon")) == ["/b/beach far away.jpg"]
    assert library.find("beach", where=Filter(source="/c")) == []
    assert len(library.find("beach", limit=1300)) == 1201
    assert library.find("beach", limit=0) == []
    assert library.telling("canon", where=Filter(source="/a")) == {}
    assert library.telling("canon", where=Filter(source="/b")) == {"/b/beach far away.jpg": 1}


def test_rare_words_are_enough_in_a_large_library_unless_more_is_wanted(library):
    library.add_pictures(f"/a/beach {number}.jpg" for number in range(10_000))
    library.add("/a/sunset beach.jpg")
    library.add("/a/sunset.jpg")
    best = library.find("beach sunset ", limit=2)
    assert sorted(best) == ["/a/sunset beach.jpg", "/a/sunset.jpg"]
    found = library.find("beach sunset ", limit=10)
    assert found[:2] == best
    assert len(found) >= 10
    with library.catalog.snapshot() as snapshot:
        few = snapshot.text_matches(SPACE, Modality.IMAGE, "beach sunset ", limit=2)
        many = snapshot.text_matches(SPACE, Modality.IMAGE, "beach sunset ", limit=10)
    assert [row for row, _ in few] == [row for row, _ in many[:2]]
    assert [score for _, score in few] == pytest.approx([score for _, score in many[:2]])


def test_copies_of_a_picture_are_one_row(library):
    library.add("/a/beach.jpg", content="x")
    with library.catalog.transaction() as transaction:
        copy = FileEntry("/b/beach.jpg", MediaKind.IMAGE, 10, 1, "x")
        transaction.record_files(SPACE, [FileUpdate(copy, [ItemEntry(Modality.IMAGE, 0)])])
        assert len(transaction.text_matches(SPACE, Modality.IMAGE, "beach", limit=5)) == 1


def test_words_follow_the_files(library):
    with library.catalog.snapshot() as snapshot:
        assert not snapshot.text_matches(SPACE, Modality.IMAGE, "lighthouse", limit=5)
    library.add("/old/a.jpg", text="lighthouse")
    with library.catalog.snapshot() as snapshot:
        assert snapshot.text_matches(SPACE, Modality.IMAGE, "lighthouse", limit=5)
    table = FileEntry("/t.csv", MediaKind.TABLE, 10, 1, "t")
    library.add(
        "/t.csv",
        MediaKind.TABLE,
        (Modality.TEXT, "x", None),
        content="t",
        said=[("/old/a.jpg", {"x": "stormy"}), ("/new/a.jpg", {"x": "calm"})],
    )
    assert library.find("stormy") == ["/old/a.jpg"]
    with library.catalog.transaction() as transaction:
        transaction.mark_removed(["/t.csv"])
    assert library.find("stormy") == []
    with library.catalog.transaction() as transaction:
        transaction.record_touched([table])
    assert library.find("stormy") == ["/old/a.jpg"]
    with library.catalog.transaction() as transaction:
        transaction.record_failures([FailedFile("/t.csv", "broken")])
    assert library.find("stormy") == []
    library.add(
        "/t.csv",
        MediaKind.TABLE,
        (Modality.TEXT, "y", None),
        content="t2",
        said=[("/new/a.jpg", {"x": "calm"})],
    )
    with library.catalog.transaction() as transaction:
        assert transaction.move_file("/old/a.jpg", "/new/a.jpg")
    assert library.find("old") == library.find("stormy") == []
    assert library.find("calm") == library.find("new") == ["/new/a.jpg"]
    library.add("/new/a.jpg", content="changed", text="harbour")
    assert library.find("lighthouse") == []
    assert library.find("harbour") == library.find("calm") == ["/new/a.jpg"]
    with library.catalog.transaction() as transaction:
        transaction.mark_removed(["/new/a.jpg"])
    assert library.find("harbour") == []


def test_words_of_passages_that_are_gone_are_not_those_of_later_ones(library):
    text = Modality.TEXT
    library.add("/a.txt", MediaKind.TEXT, (text, "one", None), (text, "two", None), content="1")
    library.add("/a.txt", MediaKind.TEXT, (text, "three", None), content="2")
    library.add("/b.txt", MediaKind.TEXT, (text, "four", None))
    assert library.find("two", text) == library.find("one", text) == []
    assert library.find("four", text) == ["/b.txt"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.text() | st.text("\"*-+^:(){}AND OR NEAR\0\n'a2雪"))
@example(query='"')
@example(query="NEAR(a b)")
@example(query="said: a*")
@example(query="a\0b")
@example(query="🐶")
@example(query="-")
@example(query="\ud800 \udcff")
@example(query="a b " * 5000)
@example(query="海" * 5000)
def test_no_text_is_an_error(library, query):
    assert library.find(query) == []
    assert library.telling(query) == {}


def test_names_of_any_bytes_have_words(library):
    library.add(os.fsdecode(b"/caf\xff beach.jpg"), content="x")
    assert len(library.find("beach caf")) == 1


@given(text=st.text(max_size=50))
@example("İ ß ŉ ﷺ ½")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_a_text_finds_itself(library, text):
    library.add("/x.jpg", text=text)
    expected = ["/x.jpg"] if indexed(text) and terms(text) else []
    assert library.find(text) == expected
    assert list(library.telling(text)) == expected


def test_ties_come_whole(library):
    """What to take of them is for their similarity to say."""
    library.add_pictures(f"/a/{number} beach.jpg" for number in range(50))
    library.add("/a/beach beach.jpg")
    assert len(library.find("beach", limit=3)) == 51
    assert library.find("beach", limit=1) == ["/a/beach beach.jpg"]


def spread(library, words, count=40):
    """Files of a number, those of each word as many as asked for from the first on."""
    library.add_pictures(
        f"/{number} {' '.join(word for word, held in words.items() if number < held)}.jpg"
        for number in range(count)
    )


@pytest.mark.parametrize("count", [12, 40, 300])
def test_a_word_tells_the_less_the_more_files_have_it(library, count):
    held = {"one": 1, "few": count // 10, "some": count // 4, "half": count // 2, "all": count}
    spread(library, {f"w{word}": number for word, number in held.items()}, count)
    shares = {
        word: library.telling(f"w{word} ").get(
            "/0 " + " ".join(f"w{w}" for w in held) + ".jpg", 0.0
        )
        for word in held
    }
    assert shares["one"] == 1
    assert shares["few"] >= 0.8
    assert 0.5 <= shares["some"] < 0.7
    assert shares["half"] < 0.2
    assert shares["all"] == 0
    assert len(library.telling("wsome ")) == count // 4


@pytest.mark.parametrize(
    "query",
    [
        "receipt from quillfeather",
        "my quillfeather receipts",
        "a photo of the Quillfeather",
        "the quillfeather at home in the evening with everybody",
        "das Foto von Quillfeather",
        "quillfeather common",
        "Quillfeathers",
        "quillfea",
    ],
)
def test_no_word_vetoes_a_rare_one(library, query):
    spread(library, {"quillfeather": 1, "common": 40})
    assert list(library.telling(query)) == ["/0 quillfeather common.jpg"]


def test_a_name_between_other_characters_is_found(library):
    spread(library, {"小明": 1, "生日": 30})
    library.add("/x.jpg", text="生日")
    told = library.telling("小明的生日")
    assert list(told) == ["/0 小明 生日.jpg"]
    assert told["/0 小明 生日.jpg"] == 1


def test_the_more_of_the_words_the_larger_the_share(library):
    spread(library, {"castle": 4, "dusk": 2, "grimblewick": 1})
    told = library.telling("Grimblewick castle at dusk ")
    names = ["/0 castle dusk grimblewick.jpg", "/1 castle dusk.jpg", "/2 castle.jpg"]
    shares = [told[name] for name in names]
    assert shares == sorted(shares, reverse=True)
    assert len(told) == 4
    assert library.telling("Grimblewick castle at dusk near nowhere ")[names[0]] < shares[0]


def test_a_word_that_may_go_on_counts_less_than_one_that_is_whole(library):
    spread(library, {"carpet": 2, "car": 1})
    assert library.telling("car") == {"/0 carpet car.jpg": 1}
    assert [*library.telling("carp").values()] == pytest.approx([0.38, 0.38])
    assert library.telling("carp ") == {}


def test_function_words_find_only_where_nothing_else_is_asked(library):
    spread(library, {"at": 1})
    assert library.telling("dog at the beach ") == {}
    assert list(library.telling("at ")) == ["/0 at.jpg"]


def test_words_of_too_many_files_find_nothing(library, monkeypatch):
    monkeypatch.setattr("retrieval.catalog.fulltext.search._MANY", 10)
    spread(library, {"rare": 3, "known": 8, "frequent": 11})
    assert len(library.telling("rare ")) == 3
    assert len(library.telling("known ")) == 8
    assert library.telling("frequent ") == {}
    assert len(library.telling("rare frequent ")) == 3


def test_words_of_too_many_files_find_what_holds_all_of_them(library, monkeypatch):
    monkeypatch.setattr("retrieval.catalog.fulltext.search._MANY", 10)
    library.add_pictures(f"/left {number}.jpg" for number in range(12))
    library.add_pictures(f"/right {number}.jpg" for number in range(12))
    library.add_pictures(f"/{number}.jpg" for number in range(20))
    library.add_pictures(["/left right.jpg"])
    assert list(library.telling("left right ")) == ["/left right.jpg"]
    assert library.telling("left ") == library.telling("right ") == {}
    library.add("/left right rare.jpg")
    library.add("/rare left.jpg")
    told = library.telling("left right rare ")
    assert set(told) == {"/left right.jpg", "/left right rare.jpg", "/rare left.jpg"}
    assert told["/left right rare.jpg"] > max(told["/rare left.jpg"], told["/left right.jpg"])


@given(
    words=st.lists(
        st.sampled_from(["anna", "ben", "cleo", "dora", "emil"]), min_size=1, unique=True
    ),
    around=st.lists(st.sampled_from(["the", "of", "my", "is", "der", "und", "nowhere", "xyzzy"])),
    data=st.data(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_a_query_finds_what_its_words_find(people, words, around, data):
    """Whatever stands beside them, and in any order."""
    alone = {path for word in words for path in people.telling(f"{word} ")}
    query = " ".join(data.draw(st.permutations([*words, *around])))
    told = people.telling(f"{query} ")
    assert set(told) == alone
    whole = people.telling(" ".join([*words, ""]))
    assert all(told[path] <= whole[path] + 1e-9 for path in told)


@pytest.fixture
def people(library):
    spread(library, {"anna": 1, "ben": 3, "cleo": 9, "dora": 15, "emil": 40})
    return library
