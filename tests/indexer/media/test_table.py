import codecs
import csv
import datetime
import importlib
import io
import json
import math
import sys
import time
import tracemalloc
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.media.base import Annotation, Decoded, ReadOptions
from indexer.media.table import read
from retrieval.errors import MissingExtraError, UnreadableFileError

pyarrow = importlib.import_module("pyarrow")
parquet = importlib.import_module("pyarrow.parquet")

ONE_FILE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
CELLS = st.text(st.sampled_from("ab é字,;\t\"'\n\r"), max_size=8) | st.text(
    st.characters(exclude_characters="\0", codec="utf-8"), max_size=8
)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    """The same rows in whatever form the name asks for."""
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=700)
    elif path.suffix == ".jsonl":
        write(path, "".join(json.dumps(row) + "\n" for row in rows))
    else:
        stream = io.StringIO()
        delimiter = "\t" if path.suffix == ".tsv" else ","
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
        write(path, stream.getvalue())
    return path


def reading_of(path: Path, **options: str) -> Decoded:
    return read(str(path), 0, ReadOptions(**options))


def read_through(path: Path) -> list[Decoded]:
    readings, start = [], 0
    while start is not None:
        readings.append(read(str(path), start, ReadOptions()))
        assert readings[-1].next is None or readings[-1].next > start
        start = readings[-1].next
    return readings


def parts_of(reading: Decoded) -> dict[str, str]:
    return {piece.locator.part: piece.payload for piece in reading.pieces}


def refusal(path: Path, **options: str) -> str:
    with pytest.raises(UnreadableFileError) as caught:
        reading_of(path, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_rows_become_texts_with_their_columns_and_annotations(tmp_path, name):
    rows = [
        {"Image": "photos/1.jpg", "caption": "A dog, running", "year": "2001"},
        {"Image": "../2.jpg", "caption": " ", "year": "2002"},
    ]
    reading = reading_of(write_rows(tmp_path / name, rows))
    assert parts_of(reading) == {"r1": "A dog, running"}
    assert reading.pieces[0].locator.columns == {"Image": "photos/1.jpg", "year": "2001"}
    assert len(reading.notes) == 2  # there are no such images
    assert reading.annotations == (
        Annotation(
            str(tmp_path / "photos" / "1.jpg"), {"caption": "A dog, running", "year": "2001"}
        ),
        Annotation(str(tmp_path.parent / "2.jpg"), {"caption": " ", "year": "2002"}),
    )
    assert reading.next is None


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_long_tables_are_read_in_turns_without_gaps(tmp_path, name):
    rows = [{"id": str(n), "text": f"first\n{n}"} for n in range(1, 1801)]
    readings = read_through(write_rows(tmp_path / name, rows))
    assert max(len(reading.pieces) for reading in readings) == 500
    pieces = [piece for reading in readings for piece in reading.pieces]
    assert [piece.locator.part for piece in pieces] == [f"r{n}" for n in range(1, 1801)]
    assert [piece.payload for piece in pieces] == [row["text"] for row in rows]
    assert [piece.locator.columns["id"] for piece in pieces] == [row["id"] for row in rows]


@ONE_FILE
@given(st.lists(st.tuples(CELLS, CELLS), max_size=6), st.sampled_from([".csv", ".tsv", ".jsonl"]))
def test_what_a_writer_wrote_is_read_whatever_is_in_it(tmp_path, cells, ending):
    rows = [{"x": "1", "text": text, "note": note} for text, note in cells]
    path = write_rows(tmp_path / f"a{ending}", [*rows, {"x": "", "text": "end", "note": "."}])
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr("indexer.media.table._ROWS_A_CALL", 2)
        readings = read_through(path)
    found = {piece.locator.part: piece for reading in readings for piece in reading.pieces}
    expected = {f"r{n}": row for n, row in enumerate(rows, start=1) if row["text"].strip()}
    assert found.pop(f"r{len(rows) + 1}").payload == "end"
    assert {
        part: (piece.payload, piece.locator.columns["note"]) for part, piece in found.items()
    } == {part: (row["text"], row["note"]) for part, row in expected.items()}


@pytest.mark.parametrize("order", [[0, 500, 1000], [1000, 500, 0], [500, 500, 1000, 0, 1000]])
def test_any_row_of_parquet_can_be_gone_on_from(tmp_path, order):
    path = write_rows(tmp_path / "a.parquet", [{"text": f"t{n}"} for n in range(1, 1101)])
    for start in order:
        reading = read(str(path), start, ReadOptions())
        assert reading.pieces[0].locator.part == f"r{start + 1}"
        assert reading.pieces[0].payload == f"t{start + 1}"


def test_a_parquet_file_that_was_replaced_is_not_gone_on_with(tmp_path):
    path = write_rows(tmp_path / "a.parquet", [{"text": "old"}] * 1800)
    assert read(str(path), 0, ReadOptions()).next == 500
    write_rows(path, [{"text": "replaced"}] * 1800)
    assert read(str(path), 500, ReadOptions()).pieces[0].payload == "replaced"


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_the_time_of_long_tables_is_not_quadratic(tmp_path, name):
    path = tmp_path / name
    rows = 100_000
    if name == "a.parquet":
        table = pyarrow.table({"text": [f"text {n}" for n in range(rows)]})
        parquet.write_table(table, path)
    elif name == "a.csv":
        write(path, "text\n" + "".join(f"text {n}\n" for n in range(rows)))
    else:
        write(path, "".join(f'{{"text": "text {n}"}}\n' for n in range(rows)))
    began = time.perf_counter()
    assert sum(len(reading.pieces) for reading in read_through(path)) == rows
    assert time.perf_counter() - began < 15


def test_memory_stays_flat_however_long_the_rows(tmp_path):
    path = tmp_path / "a.csv"
    with path.open("w") as file:
        file.write("text\n")
        for _ in range(100):
            file.write("x" * 300_000 + "\n")
    tracemalloc.start()
    assert len(reading_of(path).pieces) < 20
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_lists_of_texts_are_numbered_by_their_place(tmp_path):
    row = {"captions": ["one", "", None, "four"], "image": {"bytes": None, "path": "a.jpg"}}
    for name in ("a.jsonl", "a.parquet"):
        reading = reading_of(write_rows(tmp_path / name, [row]))
        assert parts_of(reading) == {"r1": "one", "r1n4": "four"}
        said = {"captions": row["captions"]}
        assert reading.annotations == (Annotation(str(tmp_path / "a.jpg"), said),)


@pytest.mark.parametrize(
    ("names", "options", "text", "image"),
    [
        ("title,text,caption", {}, "caption", None),
        ("TEXT,Title,file", {}, "TEXT", "file"),
        ("Caption,caption", {}, "caption", None),
        ("caption,note", {"text_column": "note"}, "note", None),
        ("caption,Note", {"text_column": "note"}, "Note", None),
        ("path,img,caption", {"image_column": "path"}, "caption", "path"),
        ("path,img", {}, None, "img"),
        ("text,file", {"text_column": "file"}, "file", None),
    ],
)
def test_columns_are_found_by_their_names(tmp_path, names, options, text, image):
    columns = names.split(",")
    row = ",".join(f"in {name}" for name in columns)
    reading = reading_of(write(tmp_path / "a.csv", f"{names}\n{row}\n"), **options)
    assert parts_of(reading) == ({"r1": f"in {text}"} if text else {})
    paths = [annotation.image_path for annotation in reading.annotations]
    assert paths == ([str(tmp_path / f"in {image}")] if image else [])


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_table_without_such_columns_says_which_it_has(tmp_path, name):
    path = write_rows(tmp_path / name, [{"id": "1", "price": "2"}])
    message = refusal(path)
    assert "id, price" in message
    assert "--text-column" in message
    assert "--image-column" in message
    assert "'nota'" in refusal(path, text_column="nota")
    assert "'foto'" in refusal(path, text_column="id", image_column="foto")


def test_json_lines_may_have_columns_in_some_rows_only(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        '\ufeff{"id": 1}\r\n\n{"title": "a"}\n{"caption": "b", "title": "c"}',
    )
    reading = reading_of(path)
    assert parts_of(reading) == {"r2": "a", "r3": "b"}
    assert reading.pieces[1].locator.columns == {"title": "c"}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", '["b"]\n', "line 1: not a JSON object"),
        ("a.jsonl", '{"text": ' + "[" * 100_000, "line 1: "),
        (
            "a.csv",
            "text,x\na,1,2\nb,3,4\n",
            "line 2: 3 fields, where the first line names 2, and 1",
        ),
        ("a.csv", "text,x,x\na,1,2\n", "several columns of the same name: x"),
        ("a.csv", b"text\na\0b\n", "is not text"),
        ("a.csv", "text\n" + "Zażółć\n".encode("cp1250").decode("latin-1"), None),
        ("a.parquet", b"PAR1 no PAR1", "is not Parquet"),
        *((f"a.{ending}", b"", "the file is empty") for ending in ("csv", "jsonl", "parquet")),
    ],
)
def test_tables_without_a_row_that_can_be_read_are_refused(tmp_path, name, content, reason):
    if reason is None:
        content, reason = content.encode("latin-1"), "save it as UTF-8"
    assert reason in refusal(write(tmp_path / name, content))


@pytest.mark.parametrize(
    ("name", "content", "texts", "notes"),
    [
        ("a.jsonl", '{"text": "a"}\n\n{"text": \n', ["a"], ["line 3: not JSON"]),
        (
            "a.jsonl",
            '{"text": "a"}\n["b"]\n{"text": "c"}',
            ["a", "c"],
            ["line 2: not a JSON object"],
        ),
        ("a.jsonl", '{"text": "a"}\n{"text": {"en": "b"}}', ["a"], ["line 2: a text is dict"]),
        ("a.csv", "text,x\na,1\nb,2,3\nc,4\n", ["a", "c"], ["line 3: 3 fields"]),
        ("a.csv", 'text,x\n"a\nb",1\nc,d,e\n', ["a\nb"], ["line 4: 3 fields"]),
        (
            "a.csv",
            "x,text\n1,a\n2\n",
            ["a"],
            ["line 3: 1 field, where the first line names 2; 'text'"],
        ),
        ("a.csv", "text,x\na\nb,2\n", ["a", "b"], []),
        ("a.csv", "text,x,,\na,1,,\nb,2,\nc,3,,,\n", ["a", "b", "c"], []),
        ("a.csv", 'text,x\n"a \\"big\\" dog",1\nb,2\n', ['a "big" dog', "b"], []),
        ("a.csv", 'text,x\n"a"b,1\nc,2\n', ['"a"b', "c"], []),
        ("a.csv", 'text,x\na,1\n"b,2\nc,3\n', ["a", '"b', "c"], []),
        ("a.csv", 'text,x\n5" disk,1\nb,2\n', ['5" disk', "b"], []),
        ("a.csv", 'x,text\n1,"a, b"\n2,"c ""d"""\n', ["a, b", 'c "d"'], []),
        ("a.csv", "sep=;\ntext;x\na;1\n", ["a"], []),
        ("a.csv", '"sep=|"\r\ntext|x\r\na|1\r\n', ["a"], []),
        ("a.csv", "# made by a tool\n# on Monday\ntext,x\na,1\n# b\nc,2\n", ["a", "c"], []),
        ("a.csv", "#text,x\n#1,2\n", ["#1"], []),
        (
            "a.csv",
            "image_name| comment_number| comment\np| 0| a b .\nq| 1| c\n",
            ["a b .", "c"],
            None,
        ),
        ("a.csv", "text\nä\n".encode("utf-16"), ["ä"], []),
        ("a.tsv", "text,x\na,1\n", ["a"], []),
        ("a.jsonl", '\ufeff{"text": "a"}\n{"text": "ä"}\n'.encode("utf-16-le"), ["a", "ä"], []),
        ("a.jsonl", '[{"text": "a"},\n{"text": "b"}]', ["a", "b"], []),
        ("a.json", '\ufeff[\n {"text": "a"}, {"text": "b"}\n]\n', ["a", "b"], []),
        (
            "a.json",
            '[{"text": "a"},\n{"text" "b"},\n{"text": "c"}]',
            ["a", "c"],
            ["line 2: not JSON"],
        ),
        ("a.json", '[{"text": "a"},\n{"text": "b', ["a"], ["line 2: not JSON"]),
        ("a.json", '[{"text": "a"},\n', ["a"], ["line 2: the file ends within"]),
    ],
)
def test_a_bad_row_costs_only_itself_and_is_named(tmp_path, name, content, texts, notes):
    reading = reading_of(write(tmp_path / name, content))
    assert [piece.payload for piece in reading.pieces] == texts
    if notes is not None:
        assert len(reading.notes) == len(notes)
        for note, begin in zip(reading.notes, notes, strict=True):
            assert note.startswith(begin)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
@ONE_FILE
@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_any_rows_may_be_bad(tmp_path, name, are_good):
    good = {"a.csv": "r{},1\n", "a.jsonl": '{{"text": "r{}"}}\n', "a.json": '{{"text": "r{}"}},\n'}
    bad = {"a.csv": "a,b,c\n", "a.jsonl": "{]\n", "a.json": "{],},\n"}
    begin = {"a.csv": "text,x\n", "a.jsonl": "", "a.json": "[\n"}[name]
    lines = [good[name].format(n) if ok else bad[name] for n, ok in enumerate(are_good, start=1)]
    end = '{"text": "end"}]' if name == "a.json" else good[name].format("end")
    path = write(tmp_path / name, begin + "".join(lines) + end.replace("rend", "end"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexer.media.table._ROWS_A_CALL", 2)
        readings = read_through(path)
    texts = [piece.payload for reading in readings for piece in reading.pieces]
    assert texts == [f"r{n}" for n, ok in enumerate(are_good, start=1) if ok] + ["end"]
    first = 1 if name == "a.jsonl" else 2
    named = [note.partition(":")[0] for reading in readings for note in reading.notes]
    assert named == [f"line {n}" for n, ok in enumerate(are_good, start=first) if not ok]


def test_a_hundred_bad_rows_are_named_and_the_others_counted(tmp_path):
    rows = "a,1\nb,c,d\n" * 700
    readings = read_through(write(tmp_path / "a.csv", f"text,x\n{rows}"))
    notes = [note for reading in readings for note in reading.notes]
    assert len(notes) == 101
    assert notes[-1] == "600 more rows like these"


def test_a_stray_quote_does_not_swallow_the_rows_up_to_the_next(tmp_path):
    rows = [f"p{n}.jpg,lamp {n}\n" for n in range(9)]
    rows[2], rows[7] = 'p2.jpg,"oops\n', 'p7.jpg,he said "\n'
    reading = reading_of(write(tmp_path / "a.csv", "image,text\n" + "".join(rows)))
    assert len(reading.pieces) == 9


def test_lines_are_numbered_from_the_beginning_when_reading_goes_on(tmp_path):
    path = write(tmp_path / "a.csv", "text,x\n" + '"a\nb",1\n' * 700 + "c,d,e\n")
    assert [note for reading in read_through(path) for note in reading.notes] == [
        "line 1402: 3 fields, where the first line names 2"
    ]


def test_a_value_that_python_cannot_hold_costs_only_itself_in_parquet(tmp_path):
    times = pyarrow.array([0, 10**18, 1], pyarrow.timestamp("us"))
    table = pyarrow.table({"text": ["a", "b", "c"], "at": times})
    parquet.write_table(table, tmp_path / "a.parquet")
    reading = reading_of(tmp_path / "a.parquet")
    assert [piece.payload for piece in reading.pieces] == ["a", "b", "c"]
    assert len(reading.notes) == 1
    assert reading.notes[0].startswith("row 2: the value of 'at'")


def test_the_encoding_can_be_named(tmp_path):
    path = write(tmp_path / "a.csv", "text\nZażółć\n".encode("cp1250"))
    assert "--text-encoding" in refusal(path)
    assert parts_of(reading_of(path, text_encoding="cp1250")) == {"r1": "Zażółć"}


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1250", "Černý a flekatý pes bojují na louce a dívka leze do dřevěného domu"),
        ("big5", "一隻黑色的狗在草地上奔跑，我們都看到了它"),
        ("shift_jis", "黒い犬が草の上を走っています。とても速いです。"),
        ("euc-kr", "개가 풀밭에서 뛰고 있다. 우리는 모두 그것을 보았다."),
        ("koi8-r", "Чёрная собака бежит по траве и мы все это видим"),
    ],
)
def test_encodings_are_detected_or_refused(tmp_path, encoding, text):
    path = write(tmp_path / "a.csv", f"image,text\np.jpg,{text}\n".encode(encoding))
    try:
        assert parts_of(reading_of(path)) == {"r1": text}
    except UnreadableFileError as error:
        assert "--text-encoding" in str(error)  # noqa: PT017 - either is right, nonsense is not


def test_a_damaged_parquet_file_is_refused(tmp_path):
    path = write_rows(tmp_path / "a.parquet", [{"text": f"text {n}"} for n in range(1000)])
    content = bytearray(path.read_bytes())
    content[10:2000] = b"\xff" * 1990
    assert "is not Parquet that can be read" in refusal(write(path, bytes(content)))


def test_parquet_without_its_package_says_how_to_get_it(tmp_path, monkeypatch):
    path = write_rows(tmp_path / "a.parquet", [{"text": "a"}])
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"mmsearch\[tables\]"):
        reading_of(path)


@pytest.mark.parametrize(
    ("encoding", "delimiter"), [("utf-8-sig", ";"), ("gb18030", ","), ("cp1252", "\t")]
)
def test_csv_comes_in_several_encodings_and_dialects(tmp_path, encoding, delimiter):
    text = "这是一只在草地上奔跑的狗" if encoding == "gb18030" else "un garçon près de l'océan"
    content = f'"x, y"{delimiter}text\r\n"1\n2"{delimiter}{text}\r\n\r\n'
    reading = reading_of(write(tmp_path / "a.csv", content.encode(encoding)))
    assert parts_of(reading) == {"r1": text}
    assert reading.pieces[0].locator.columns == {"x, y": "1\n2"}


def test_lines_may_end_with_carriage_returns_alone(tmp_path):
    path = write(tmp_path / "a.csv", "text,x\r" + "a,1\r" * 501)
    assert [len(reading.pieces) for reading in read_through(path)] == [500, 1]


def test_a_damaged_place_in_csv_stays_one(tmp_path):
    content = b"text\n" + "été\n".encode() * 100 + b"a\xffb\n" + "été\n".encode()
    texts = list(parts_of(reading_of(write(tmp_path / "a.csv", content))).values())
    assert texts == ["été"] * 100 + ["a\ufffdb", "été"]


@pytest.mark.parametrize("content", ["text,x\n", " \n\n", codecs.BOM_UTF8])
def test_a_table_of_no_rows_has_no_pieces(tmp_path, content):
    assert reading_of(write(tmp_path / "a.csv", content)) == Decoded(())


def test_long_fields_are_read_and_endless_ones_refused(tmp_path):
    assert (
        len(reading_of(write(tmp_path / "a.csv", "text\n" + "x" * 200_000)).pieces[0].payload) > 1e5
    )
    endless = "x" * 16_000_001
    assert "line 2" in refusal(write(tmp_path / "a.csv", f"text\n{endless}"))
    assert "line 1" in refusal(write(tmp_path / "a.jsonl", f'{{"text": "{endless}"}}'))


def test_values_are_made_fit_for_json(tmp_path):
    nanosecond = pyarrow.array([1], pyarrow.timestamp("ns"))
    row = {
        "text": ["a"],
        "content": [b"\xff"],
        "day": [datetime.date(2001, 2, 3)],
        "at": nanosecond,
        "price": [Decimal("1.5")],
        "nan": [math.nan],
        "flags": [[True, None]],
        "record": [{"bytes": b"\xff", "size": 3}],
        "long": ["x" * 20_000],
        "longer": [["x" * 20_000]],
    }
    parquet.write_table(pyarrow.table(row), tmp_path / "a.parquet")
    columns = reading_of(tmp_path / "a.parquet").pieces[0].locator.columns
    for name in ("long", "longer"):
        assert len(columns.pop(name)) == 10_000
    assert json.loads(json.dumps(columns, allow_nan=False)) == {
        "day": "2001-02-03",
        "at": "1970-01-01T00:00:00",
        "price": 1.5,
        "nan": None,
        "flags": [True, None],
        "record": {"size": 3},
    }


def test_halves_of_surrogate_pairs_do_not_get_through(tmp_path):
    path = write(tmp_path / "a.jsonl", r'{"text": "a\ud800", "\ud800": "\ud800", "img": "\ud800"}')
    reading = reading_of(path)
    assert reading.annotations == ()
    assert parts_of(reading) == {"r1": "a?"}
    json.dumps(reading.pieces[0].locator.columns, ensure_ascii=False).encode()


@pytest.mark.parametrize("value", ["https://a.b/c.jpg", "", " ", None, 3, ["a.jpg"]])
def test_what_is_no_path_annotates_nothing(tmp_path, value):
    path = write_rows(tmp_path / "a.jsonl", [{"image": value, "text": "a"}])
    assert reading_of(path).annotations == ()


def test_absolute_paths_stay(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [{"image": str(tmp_path / "b" / ".." / "c.jpg")}])
    assert reading_of(path).annotations[0].image_path == str(tmp_path / "c.jpg")
