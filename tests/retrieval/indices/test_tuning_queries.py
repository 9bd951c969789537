import unicodedata

import numpy as np
import pytest

from retrieval.indices import tuning_queries as encoded_module
from retrieval.indices.tuning_queries import bundled_texts, encoded_texts


class Encoding:
    """Counts the texts that it makes vectors of."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, texts):
        self.count += len(texts)
        vectors = np.array([[len(text), sum(map(ord, text)), 1] for text in texts], np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def encode():
    return Encoding()


def test_there_are_several_thousand_different_texts_of_many_kinds():
    texts = bundled_texts()
    assert len(texts) == len(set(texts)) == 4096
    assert all(text == text.strip() and text.isprintable() for text in texts)
    lengths = [len(text.split()) for text in texts]
    assert min(lengths) == 1
    assert max(lengths) >= 20
    scripts = {unicodedata.name(letter).split()[0] for text in texts for letter in text}
    assert {"LATIN", "CJK", "HIRAGANA", "HANGUL", "CYRILLIC", "DEVANAGARI", "ARABIC"} <= scripts


def test_texts_are_encoded_once(tmp_path, encode):
    seen = []
    first = encoded_texts(tmp_path, 3, encode, on_progress=lambda *event: seen.append(event))
    assert seen[-1] == (4096, 4096)
    again = encoded_texts(tmp_path, 3, encode)
    assert encode.count == 4096
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.float32
    np.testing.assert_allclose(first[7], Encoding()([bundled_texts()[7]])[0], atol=1e-3)
    assert [file.name for file in tmp_path.iterdir()] == ["queries.f16"]


@pytest.mark.parametrize("damage", [lambda content: content[:-3], lambda content: b"\0" + content])
def test_a_damaged_file_is_made_anew(tmp_path, encode, damage):
    first = encoded_texts(tmp_path, 3, encode)
    file = tmp_path / "queries.f16"
    file.write_bytes(damage(file.read_bytes()))
    np.testing.assert_array_equal(encoded_texts(tmp_path, 3, encode), first)
    assert encode.count == 2 * 4096


def test_another_list_is_encoded_anew(tmp_path, encode, monkeypatch):
    encoded_texts(tmp_path, 3, encode)
    monkeypatch.setattr(encoded_module, "bundled_texts", lambda: ["one", "two"])
    assert len(encoded_texts(tmp_path, 3, encode)) == 2
    assert encode.count == 4096 + 2


def test_stopping_keeps_nothing(tmp_path, encode):
    assert len(encoded_texts(tmp_path, 3, encode, should_stop=lambda: True)) == 64
    assert list(tmp_path.iterdir()) == []
