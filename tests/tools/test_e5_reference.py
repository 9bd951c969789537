"""The texts that the tokenizer is held against are those of the tool, and of many scripts."""

import json
import lzma
import unicodedata

from tools.e5_reference import COUNT, SENTENCES, TARGET, texts


def test_the_file_has_the_texts_of_the_tool():
    reference = json.loads(lzma.decompress(TARGET.read_bytes()))
    assert [text for text, _ in reference["ids"]] == texts()
    assert len(texts()) == COUNT


def test_the_sentences_are_of_many_scripts():
    letters = {c for text in SENTENCES for c in text if c.isalpha()}
    scripts = {unicodedata.name(c, "?").split()[0] for c in letters}
    assert scripts >= {
        *("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "GEORGIAN", "HEBREW", "ARABIC", "DEVANAGARI"),
        *("BENGALI", "TAMIL", "THAI", "LAO", "KHMER", "MYANMAR", "ETHIOPIC", "CJK", "HIRAGANA"),
        *("KATAKANA", "HANGUL", "FULLWIDTH", "HALFWIDTH", "MATHEMATICAL", "TIBETAN", "CHEROKEE"),
    }
