import io
import os
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.media.base import Decoded, ReadOptions
from indexer.media.text import guess_encoding, read, read_chunk
from retrieval.errors import UnreadableFileError

CHINESE = "这是一只在草地上奔跑的狗。我们都看到了它，它跑得很快。"
FRENCH = "Un garçon joue près de l'océan où il a vu des élèves. Ça va être très bien.\n"
RUSSIAN = "Собака бежит по траве, и мы все это видим. Она очень быстрая.\n"


def reading_of(tmp_path: Path, name: str, content: str | bytes) -> Decoded:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read(str(path), 0, ReadOptions())


def text_of(tmp_path: Path, name: str, content: str | bytes) -> str:
    (piece,) = reading_of(tmp_path, name, content).pieces
    assert piece.locator.part == "c0"
    return piece.payload


def read_through(path: Path) -> list[str]:
    texts, start = [], 0
    while start is not None:
        reading = read(str(path), start, ReadOptions())
        for piece in reading.pieces:
            assert piece.locator.part == f"c{start}"
            texts.append(piece.payload)
        assert reading.next is None or reading.next > start
        start = reading.next
    return texts


def chunks_of(content: bytes, size: int) -> list[str]:
    chunks, start = [], 0
    while start is not None:
        text, start = read_chunk(io.BytesIO(content), start, size)
        chunks.append(text)
    return chunks


@given(
    st.text(
        st.sampled_from("ab é字\U0001f600\n\r \t.\u0a0a\u200a") | st.characters(codec="utf-8"),
        max_size=80,
    ),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-32-be"]),
    st.integers(8, 40),
)
def test_chunks_put_together_are_the_whole_text(text, encoding, size):
    text = text.replace("\0", "")
    mark = "\ufeff" if encoding.endswith("-be") else ""
    assert "".join(chunks_of((mark + text).encode(encoding), size)) == text.removeprefix(
        # A mark in UTF-8 is told from a first character only by convention.
        "\ufeff" if encoding == "utf-8" else ""
    )


@given(st.text("的一是不了\n a", min_size=30, max_size=80), st.integers(60, 100))
def test_chunks_of_chinese_in_its_old_encoding_are_the_whole_text(text, size):
    text = "的一是" * 12 + text
    assert "".join(chunks_of(text.encode("gb18030"), size)) == text


def test_chunks_end_at_paragraphs_then_lines_then_words():
    assert chunks_of(b"aaaa aaaa\n\nbb\ncc dd", 17)[0] == "aaaa aaaa\n\n"
    assert chunks_of(b"aaaa aaaa\nbb cc dd ee", 17)[0] == "aaaa aaaa\n"
    assert chunks_of(b"aaaa aaaa bb cc ddddd", 17)[0] == "aaaa aaaa bb cc "
    assert chunks_of("字".encode() * 9, 17) == ["字" * 5, "字" * 4]


def test_a_long_file_is_read_in_pieces_named_by_their_offsets(tmp_path):
    text = "".join(f"Paragraph {number}: le café est fermé.\n\n" for number in range(20_000))
    path = tmp_path / "long.txt"
    path.write_text(text, encoding="utf-8")
    pieces = read_through(path)
    assert "".join(pieces) == text
    assert len(pieces) == 4
    assert all(len(piece) <= 200_000 and piece.endswith(".\n\n") for piece in pieces)


def test_memory_stays_flat_and_each_call_is_quick(tmp_path):
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.seek(1_000_000_000)
        file.write(b"\nthe end\n")
    tracemalloc.start()
    began = time.perf_counter()
    reading = read(str(path), 999_999_999 + 1, ReadOptions())
    assert time.perf_counter() - began < 5
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    assert reading.pieces[0].payload == "\nthe end\n"
    assert reading.next is None


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (FRENCH + CHINESE, "utf-8"),
        (FRENCH + CHINESE, "utf-8-sig"),
        (FRENCH + CHINESE, "utf-16"),
        (FRENCH + CHINESE, "utf-32"),
        (CHINESE, "gb18030"),
        (CHINESE, "gb2312"),
        ("你好，世界", "gbk"),
        (FRENCH, "cp1252"),
        (FRENCH, "latin-1"),
        ("“Naïve” – it’s 5 €\n", "cp1252"),
        ("plain", "ascii"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.html"])
def test_text_is_decoded_as_it_was_encoded(tmp_path, text, encoding, name):
    content = text.encode(encoding)
    expected = " ".join(text.split()) if name == "a.html" else text
    assert text_of(tmp_path, name, content) == expected


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        ("개가 풀밭에서 뛰고 있다. 우리는 모두 그것을 보았다.", "euc-kr"),
        ("犬が草の上を走っています。とても速いです。", "shift_jis"),
        ("狗在草地上奔跑,我們都看到了它", "big5"),
        ("Ο σκύλος τρέχει στο γρασίδι", "cp1253"),
    ],
)
def test_old_encodings_are_detected_or_refused(text, encoding):
    raw = text.encode(encoding)
    try:
        assert raw.decode(guess_encoding(raw)) == text
    except UnreadableFileError as error:
        assert "--text-encoding" in str(error)  # noqa: PT017 - either is right, nonsense is not


def test_a_damaged_place_does_not_change_the_encoding(tmp_path):
    content = CHINESE.encode() + b"\xff" + CHINESE.encode()[:-1]
    assert text_of(tmp_path, "a.txt", content) == f"{CHINESE}\ufffd{CHINESE[:-1]}\ufffd"


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is not text"),
        (b"\xff\xfeM\0\0\0", "is not text"),
    ],
)
def test_files_that_are_not_text_are_refused_with_the_reason(tmp_path, name, content, reason):
    with pytest.raises(UnreadableFileError, match=reason):
        reading_of(tmp_path, name, content)


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.rst", "a.html"])
@pytest.mark.parametrize("content", [b" \n\t\n", "\ufeff\u3000".encode()])
def test_blanks_alone_are_no_piece(tmp_path, name, content):
    assert reading_of(tmp_path, name, content) == Decoded(())


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(str(tmp_path / "missing.txt"), 0, ReadOptions())


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_names_need_not_be_valid_text(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.txt"
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - names need not be valid text
        file.write("found")
    assert read(os.fsdecode(path), 0, ReadOptions()).pieces[0].payload == "found"


def test_markdown_keeps_its_words_and_code_and_loses_its_addresses(tmp_path):
    reading = reading_of(
        tmp_path,
        "a.md",
        "---\ntitle: 'A walk'\ntags: [dog, park]\nlayout: post\n---\n"
        "# Dogs\n\nSee [the *park*](https://a.b/c_(d)) and ![a dog](dog.jpg 'x').\n"
        "[![badge](b.svg)](https://c.d)\n\n```python\nf[0](x)\n```\nand `g[1](y)`, a[i].\n",
    )
    (piece,) = reading.pieces
    assert piece.payload.strip() == (
        "# Dogs\n\nSee the *park* and a dog.\nbadge\n\n"
        "```python\nf[0](x)\n```\nand `g[1](y)`, a[i]."
    )
    assert reading.metadata.text == "A walk\ndog, park"


@given(st.text(st.sampled_from("ab \n"), max_size=60))
def test_markdown_without_markup_stays_as_it_is(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "plain.md"
    path.write_bytes(b"x" + text.encode())
    assert "".join(read_through(path)) == "x" + text


@pytest.mark.parametrize("content", ["[" * 200_000, "[a](" * 50_000, "`" * 99_999 + "\n" * 99_999])
def test_markdown_cannot_take_long(tmp_path, content):
    began = time.perf_counter()
    reading_of(tmp_path, "a.md", content)
    assert time.perf_counter() - began < 10


def test_html_gives_what_is_seen_with_the_title_first(tmp_path):
    reading = reading_of(
        tmp_path,
        "a.html",
        "<!DOCTYPE html><html><head><title>A &amp; B</title><meta charset='utf-8'>"
        "<meta name=description content='Two  letters'><meta name='Keywords' content='a, b'>"
        "<style>p { color: red }</style><script>alert('<p>no</p>')</script></head>"
        "<body><h1>Head</h1><p>One <b>bo</b>ld\n   line<br>and next.<p>Two<!-- not this -->"
        "<img src=x alt='a dog'></p><noscript>no</noscript><template><p>no</template>"
        "<ul><li>first<li>second</ul><pre>def f():\n    pass</pre>"
        "<table><tr><td>1<td>2</table>caf&eacute;</body></html>",
    )
    (piece,) = reading.pieces
    assert piece.payload.split("\n\n") == [
        *("A & B", "Head", "One bold line\nand next.", "Two a dog", "first", "second"),
        *("def f():\n    pass", "1", "2", "café"),
    ]
    assert reading.metadata.text == "A & B\nTwo letters\na, b"
    assert reading.next is None


@pytest.mark.parametrize(
    "declaration",
    [
        "<meta charset=windows-1251>",
        "<meta http-equiv='Content-Type' content='text/html; charset=windows-1251'>",
        '<?xml version="1.0" encoding="windows-1251"?>',
    ],
)
def test_html_is_decoded_as_it_declares(tmp_path, declaration):
    content = f"{declaration}<p>{RUSSIAN}".encode("cp1251")
    assert text_of(tmp_path, "a.xhtml", content) == RUSSIAN.strip()


@pytest.mark.parametrize("name", ["nonsense", "hex", "undefined", "utf-16"])
def test_html_in_utf_8_that_declares_something_else_is_read(tmp_path, name):
    content = f"<meta charset={name}><p>{CHINESE}"
    assert text_of(tmp_path, "a.html", content) == CHINESE


def test_html_of_more_than_twenty_megabytes_is_refused(tmp_path):
    path = tmp_path / "a.html"
    with path.open("wb") as file:
        file.seek(20_000_000)
        file.write(b"x")
    with pytest.raises(UnreadableFileError, match="more than 20 MB"):
        read(str(path), 0, ReadOptions())


@given(st.lists(st.sampled_from(["<", ">", "![", "]", "--", "/", "p", "script", '"', "=", "&#x"])))
def test_broken_html_is_read_or_refused(tmp_path_factory, parts):
    path = tmp_path_factory.getbasetemp() / "broken.html"
    path.write_text(f"<p>{''.join(parts)}", encoding="utf-8")
    try:
        read(str(path), 0, ReadOptions())
    except UnreadableFileError as error:
        assert "is not HTML that can be read" in str(error)  # noqa: PT017 - most are read
