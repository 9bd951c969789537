"""Read text files: plain text, Markdown, reStructuredText and HTML, in any encoding."""

import codecs
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import BinaryIO

from indexer.media.base import Decoded, Locator, Piece, ReadOptions
from retrieval.errors import UnreadableFileError
from retrieval.media import Metadata, Modality
from retrieval.media.registry import HTML, MARKDOWN, format_of
from retrieval.objects.opening import open_path

_CHUNK_BYTES = 200_000
_LONGEST_HTML_BYTES = 20_000_000
_LONGEST_METADATA = 10_000

# The mark of UTF-16 is the beginning of that of UTF-32.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
UNIT_BYTES = {"utf-16-le": 2, "utf-16-be": 2, "utf-32-le": 4, "utf-32-be": 4}

_FREQUENT_IDEOGRAPHS = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里"
    "用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实"
    "日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政"
    "美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员"
    "解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件"
)
"""The 250 most frequent characters of Chinese, most of any Chinese text."""

_DETECTED = frozenset(
    codecs.lookup(name).name
    for name in (
        *(f"cp125{n}" for n in range(9)),
        *("cp874", "tis-620", "koi8-r", "koi8-u", "mac-roman", "mac-cyrillic"),
        *("big5", "big5hkscs", "shift_jis", "cp932", "euc-jp", "euc-kr", "cp949"),
        *("gb18030", "gbk", "gb2312", "iso-2022-jp"),
        *(f"iso8859-{n}" for n in (1, 2, 5, 7, 8, 9, 13, 15)),
    )
)
"""Encodings that a detection is believed of."""
_DETECTED_BYTES = 50_000
_LEAST_FOREIGN = 6
_ENOUGH_FOREIGN = 60
_LEAST_CONFIDENCE = 0.1
_LEAST_LEAD = 1.1

_SAFE_WESTERN = frozenset("áâäçéëíîïóôöúüßÁÂÄÇÉËÍÎÓÔÖÚÜ“”„‘’‚–—…€°©®«»·§±™•\u00a0")
_WESTERN_ONLY = frozenset("àãåæèêìñòõøùûýÿœÀÃÅÆÈÊÌÏÑÒÕØÙÛÝŸŒ¡¿£²³¼½¾ªº")
_NOT_WESTERN = re.compile(
    r"[^\W\d_a-zA-Z]{3}|(?<=[a-zA-Z])(?:[“”„‘‚–—…€°©®«»·§±™•]|’(?!(?:s|t|d|m|re|ve|ll)\b))(?=[a-zA-Z])"
)
"""Three letters in a row that are not ASCII, or a sign inside a word: of another code page."""

_MARKUP = re.compile(
    r"(?P<code>^(?P<fence>`{3,}+|~{3,}+)[\s\S]*?^(?P=fence)|`[^`\n]*`)"
    r"|!?\[(?P<text>[^\[\]]*)\]\((?:[^()\n]|\([^()\n]*\))*\)",
    re.MULTILINE,
)
_FRONT_MATTER = re.compile(
    r"\A(?P<mark>---|\+\+\+)[ \t]*\r?\n(?P<fields>[\s\S]*?)^(?P=mark)[ \t]*\r?$", re.MULTILINE
)
_FIELD = re.compile(
    r"^(title|description|summary|keywords|tags)\s*[:=](.*)$", re.MULTILINE | re.IGNORECASE
)

_DECLARED = re.compile(
    rb"<(?:meta\b[^>]{0,300}?charset|\?xml\b[^>]{0,300}?encoding)\s*=\s*[\"']?([\w.:-]+)",
    re.IGNORECASE,
)
_BLOCK = re.compile(
    r"address|article|aside|blockquote|body|caption|d[dlt]|details|dialog|div|fieldset|figcaption|"
    r"figure|footer|form|h[1-6r]|head|header|html|legend|li|main|nav|ol|option|p|pre|section|"
    r"summary|t[dhr]|table|tbody|tfoot|thead|title|ul"
)
_HIDDEN = frozenset({"script", "style", "template", "noscript"})


def read(path: str, start: int, options: ReadOptions) -> Decoded:
    """Read one piece of at most 200,000 bytes, from a byte offset on; HTML is one piece.

    Pieces end at paragraphs where possible, else at lines or blanks; put together they are the
    whole text, but for a byte order mark. Text is taken as UTF-8, as UTF-16 or UTF-32 if a mark
    says so, as what HTML declares, else see `guess_encoding`. Of Markdown, front matter is left
    out, links and images keep their text, and all else stays as it is: headings, lists and code
    read well with their signs. Of HTML, what a browser shows is kept, with the title before it and
    the texts that stand for images.

    Raises UnreadableFileError for empty and binary files, and HTML of more than 20 MB.
    """
    format_ = format_of(path)
    with open_path(path) as file:
        if not file.read(1):
            raise UnreadableFileError("the file is empty")
        if format_ is HTML:
            return _read_html(file, options.text_encoding)
        text, end = read_chunk(file, start, named=options.text_encoding)
    metadata = Metadata()
    if format_ is MARKDOWN:
        if start == 0:
            text, metadata = _without_front_matter(text)
        text = _without_markup(text)
    return Decoded(_pieces(text, start), metadata, end)


def read_chunk(
    file: BinaryIO, start: int, size: int = _CHUNK_BYTES, *, named: str | None = None
) -> tuple[str, int | None]:
    """Decode at most `size` bytes (at least 8) from an offset on; also gives where to go on.

    named: the encoding of what has no byte order mark and is not UTF-8; None: guessed.

    The second is None at the end of the file. Raises UnreadableFileError for what is not text.
    """
    file.seek(0)
    encoding, mark_length = marked_encoding(file.read(4))
    offset = max(start, mark_length)
    file.seek(offset)
    # The byte past the chunk tells whether it is the last.
    raw = file.read(size + 1)
    is_last = len(raw) <= size
    raw = raw[:size]
    if encoding is None:
        # The last chunk may be too short to guess from.
        encoding = (
            guess_encoding_at(file, offset, named=named)
            if is_last
            else guess_encoding(raw, is_whole=False, named=named)
        )
    if not is_last:
        raw = raw[: _last_good_cut(raw, encoding)]
    text, used = _decode(raw, encoding, "replace", is_whole=is_last)
    if "\0" in text:
        raise UnreadableFileError("is not text")
    return text, None if is_last else offset + used


def guess_encoding(raw: bytes, *, is_whole: bool = True, named: str | None = None) -> str:
    """Guess the encoding of text without a byte order mark.

    UTF-8 if it is valid or nearly so (damaged in less than one of 20 characters); GB18030 if it is
    valid and frequent Chinese characters are frequent; else what chardet detects, if that is one
    of the encodings in use and clearly ahead of all others; else Windows-1252 where the text reads
    the same in Windows-1250. Nothing else is guessed, since a wrong guess would fill the index with
    nonsense: raises UnreadableFileError. `is_whole`: no character is cut off at the end. `named`:
    the encoding of what is not UTF-8.
    """
    if b"\0" in raw:
        raise UnreadableFileError("is not text")
    if raw.isascii() or _is_nearly_utf_8(raw, is_whole=is_whole):
        return "utf-8"
    if named is not None:
        return named
    if _reads(raw, "gb18030", _is_chinese, is_whole):
        return "gb18030"
    detected, is_sure = _detect(raw)
    if detected is not None and is_sure and _reads(raw, detected, bool, is_whole):
        return detected
    is_likely = detected in {"cp1252", "iso8859-1", "iso8859-15"}
    if _reads(raw, "cp1252", _is_likely_western if is_likely else _is_western, is_whole):
        return "cp1252"
    raise UnreadableFileError(
        "is not UTF-8, and its encoding cannot be told for sure; save it as UTF-8, or name its "
        "encoding with `--text-encoding`, to have it indexed"
    )


_ENDLESS_WORD = re.compile(r"\w{80}")
"""In no alphabet is there a word as long: bytes that only happen to be letters make one."""


def _reads(raw: bytes, encoding: str, is_plausible: Callable[[str], bool], is_whole: bool) -> bool:
    """Return whether bytes are valid in an encoding, and make a plausible text."""
    try:
        text, _ = _decode(raw, encoding, "strict", is_whole=is_whole)
    except UnicodeDecodeError:
        return False
    return is_plausible(text)


def _detect(raw: bytes) -> tuple[str | None, bool]:
    """Detect an encoding with chardet; also say if it is in use and clearly ahead of all others.

    Measured on texts of 20 languages in 29 encodings, 1 to 40 lines each: of 932 samples that are
    decided by these thresholds, 15 are wrong, of which 13 as IBM866, which is left out for that.
    charset-normalizer is wrong in 51 of 248 of the longest samples.
    """
    import chardet

    # What is ASCII tells nothing, and takes time.
    lines = [line for line in raw.splitlines() if not line.isascii()]
    sample = b"\n".join(lines)[:_DETECTED_BYTES]
    texts: list[tuple[str, float, str]] = []
    for found in chardet.detect_all(sample, ignore_threshold=True):
        encoding = found["encoding"]
        try:
            texts.append((sample.decode(encoding or ""), found["confidence"], encoding or ""))
        except (LookupError, UnicodeError):
            continue
    if not texts:
        return None, False
    text, confidence, encoding = texts[0]
    rival = next((other for other in texts if other[0] != text), None)
    foreign = sum(not character.isascii() for character in text)
    name = codecs.lookup(encoding).name
    has_spaces = not any("\u0e00" <= c <= "\u0eff" or c >= "\u2e80" for c in text)
    if has_spaces and _ENDLESS_WORD.search(text):
        return name, False
    is_ahead = rival is None or confidence >= _LEAST_LEAD * rival[1]
    is_clear = foreign >= _ENOUGH_FOREIGN or (
        foreign >= _LEAST_FOREIGN and confidence >= _LEAST_CONFIDENCE and is_ahead
    )
    return name, is_clear and name in _DETECTED


def guess_encoding_at(
    file: BinaryIO, offset: int, reach: int = _CHUNK_BYTES, *, named: str | None = None
) -> str:
    """Guess the encoding from at most `reach` bytes before and after a character's offset."""
    start = max(0, offset - reach)
    file.seek(start)
    sample = file.read(offset - start + reach)
    is_whole = not file.read(1)
    if start:
        # Line ends and blanks are no part of a character in any encoding that is guessed.
        found = re.compile(rb"[\n ]").search(sample, 0, offset - start)
        sample = sample[found.start() if found else offset - start :]
    return guess_encoding(sample, is_whole=is_whole, named=named)


def marked_encoding(head: bytes) -> tuple[str | None, int]:
    """Return the encoding that a byte order mark names, and the mark's length."""
    return next(((name, len(mark)) for mark, name in _MARKS if head.startswith(mark)), (None, 0))


def _decode(raw: bytes, encoding: str, errors: str, *, is_whole: bool) -> tuple[str, int]:
    """Return text and the number of bytes decoded: fewer if the last character is cut off."""
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    text = decoder.decode(raw, is_whole)
    return text, len(raw) - len(decoder.getstate()[0])


def _last_good_cut(raw: bytes, encoding: str) -> int:
    """Return the end of the last paragraph, line or word in the second half, else of all.

    In none of the encodings are these bytes a part of another character, unless out of step.
    """
    unit = UNIT_BYTES.get(encoding, 1)
    for separator in ("\n\n", "\n\r\n", "\n", " "):
        sought = separator.encode(encoding)
        at = raw.rfind(sought, len(raw) // 2)
        while at >= 0 and at % unit:
            at = raw.rfind(sought, len(raw) // 2, at + len(sought) - 1)
        if at >= 0:
            return at + len(sought)
    return len(raw)


def _is_nearly_utf_8(raw: bytes, *, is_whole: bool) -> bool:
    try:
        _decode(raw, "utf-8", "strict", is_whole=is_whole)
    except UnicodeDecodeError:
        text, _ = _decode(raw, "utf-8", "replace", is_whole=is_whole)
        damaged = text.count("\ufffd")
        return damaged * 20 < sum(not character.isascii() for character in text)
    return True


def _is_chinese(text: str) -> bool:
    ideographs = [character for character in text if "\u4e00" <= character <= "\u9fff"]
    frequent = sum(character in _FREQUENT_IDEOGRAPHS for character in ideographs)
    others = sum(not character.isascii() for character in text) - len(ideographs)
    return frequent * 4 >= len(ideographs) >= max(1, others)


def _is_western(text: str) -> bool:
    """Return whether text is of Western Europe beyond doubt, whatever the code page was.

    Its letters are those that have the same place in Windows-1250, and stand among ASCII.
    """
    if any(character < " " and character not in "\t\n\r\f\x1b" for character in text):
        return False
    foreign = {character for character in text if not character.isascii()}
    return foreign <= _SAFE_WESTERN and not _NOT_WESTERN.search(text)


def _is_likely_western(text: str) -> bool:
    """Return whether text that was detected as Western, not for sure, reads as such."""
    return _is_western("".join(" " if c in _WESTERN_ONLY else c for c in text))


def _pieces(text: str, offset: int) -> tuple[Piece, ...]:
    if not text or text.isspace():
        return ()
    return (Piece(Modality.TEXT, text, Locator(f"c{offset}")),)


def _metadata(*lines: str | None) -> Metadata:
    known = [" ".join(line.split()) for line in lines if line and not line.isspace()]
    return Metadata(text="\n".join(known)[:_LONGEST_METADATA] or None)


def _without_front_matter(text: str) -> tuple[str, Metadata]:
    found = _FRONT_MATTER.match(text)
    if found is None:
        return text, Metadata()
    fields = {
        name.lower(): value.strip(" \t\r\"'[]") for name, value in _FIELD.findall(found["fields"])
    }
    return text[found.end() :], _metadata(
        fields.get("title"),
        fields.get("description") or fields.get("summary"),
        fields.get("keywords") or fields.get("tags"),
    )


def _without_markup(text: str) -> str:
    # Once for images, and once more for links around images.
    for _ in range(2):
        text = _MARKUP.sub(lambda found: found["code"] or found["text"] or "", text)
    return text


def _read_html(file: BinaryIO, named: str | None) -> Decoded:
    file.seek(0)
    raw = file.read(_LONGEST_HTML_BYTES + 1)
    if len(raw) > _LONGEST_HTML_BYTES:
        raise UnreadableFileError(f"is HTML of more than {_LONGEST_HTML_BYTES // 1_000_000} MB")
    text = _decode_html(raw, named)
    if "\0" in text:
        raise UnreadableFileError("is not text")
    page = _Page()
    try:
        page.feed(text)
        page.close()
    except AssertionError as error:  # what the parser raises at declarations that it cannot read
        raise UnreadableFileError(f"is not HTML that can be read: {error}") from error
    title = " ".join(page.title.split())
    text = page.text()
    if title and not text.startswith(title):
        text = f"{title}\n\n{text}".strip()
    description = page.named.get("description") or page.named.get("og:description")
    return Decoded(_pieces(text, 0), _metadata(title, description, page.named.get("keywords")))


def _decode_html(raw: bytes, named: str | None) -> str:
    encoding, mark_length = marked_encoding(raw[:4])
    if encoding:
        return raw[mark_length:].decode(encoding, "replace")
    declared = _DECLARED.search(raw[:4096])
    # Pages that declare one encoding and are saved in UTF-8 are common, the reverse is not.
    if declared and (raw.isascii() or not _is_nearly_utf_8(raw, is_whole=True)):
        try:
            return raw.decode(_as_browsers_read(declared[1].decode()), "replace")
        except (LookupError, UnicodeError):  # an encoding that does not exist, or not of text
            pass
    return raw.decode(guess_encoding(raw, named=named), "replace")


def _as_browsers_read(name: str) -> str:
    """Return the superset that browsers decode a label as; see the WHATWG Encoding Standard."""
    name = name.lower()
    if name in {"iso-8859-1", "latin1", "latin-1", "us-ascii", "ascii"}:
        return "cp1252"
    return {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc-kr": "cp949"}.get(
        name, name
    )


class _Page(HTMLParser):
    """Collects what a page shows, paragraph by paragraph, its title and its named metadata."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.named: dict[str, str] = {}
        self._paragraphs: list[str] = []
        self._current: list[str] = []
        self._hidden_depth = 0
        self._preformatted_depth = 0
        self._in_title = False

    def text(self) -> str:
        """Join all paragraphs, with blank lines between them."""
        self._end_paragraph()
        return "\n\n".join(self._paragraphs)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a paragraph, or note what the element itself says."""
        values = {name: value or "" for name, value in attrs}
        self._in_title = tag == "title" and not self.title
        if _BLOCK.fullmatch(tag):
            self._end_paragraph()
        if tag in _HIDDEN:
            self._hidden_depth += 1
        elif tag == "pre":
            self._preformatted_depth += 1
        elif tag == "br":
            self._current.append("\n")
        elif tag == "img" and not self._hidden_depth:
            self._current.append(f" {' '.join(values.get('alt', '').split())} ")
        elif tag == "meta":
            name = values.get("name") or values.get("property") or ""
            self.named.setdefault(name.lower(), values.get("content", ""))

    def handle_endtag(self, tag: str) -> None:
        """End a paragraph, or what was hidden."""
        self._in_title = False
        if _BLOCK.fullmatch(tag):
            self._end_paragraph()
        if tag in _HIDDEN:
            self._hidden_depth = max(0, self._hidden_depth - 1)
        elif tag == "pre":
            self._preformatted_depth = max(0, self._preformatted_depth - 1)

    def handle_data(self, data: str) -> None:
        """Take text that is shown."""
        if self._in_title:
            self.title += data
        elif not self._hidden_depth:
            self._current.append(data if self._preformatted_depth else re.sub(r"\s+", " ", data))

    def _end_paragraph(self) -> None:
        text = "".join(self._current)
        self._current.clear()
        if not self._preformatted_depth:
            text = re.sub(r"[ ]+", " ", text).replace(" \n", "\n").replace("\n ", "\n")
        if text and not text.isspace():
            self._paragraphs.append(text.strip("\n") if self._preformatted_depth else text.strip())
