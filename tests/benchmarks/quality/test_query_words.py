"""Content words, their stems and kinds, in three languages with lists and others without."""

import pytest

from benchmarks.quality.query_words import (
    Kind,
    QueryWords,
    WordLists,
    absent_queries,
    base_language,
    read_words,
)
from retrieval.errors import UsageError


@pytest.fixture(scope="module")
def english():
    return QueryWords("en")


@pytest.fixture(scope="module")
def chinese():
    return QueryWords("zh")


def test_forms_of_a_word_have_one_stem(english):
    for forms in (
        ("dog", "dogs"),
        ("run", "running", "runs", "ran"),
        ("man", "men"),
        ("person", "people"),
        ("child", "children", "kids"),
        ("bike", "bikes", "bicycle"),
    ):
        assert len({english.stem(form) for form in forms}) == 1, forms
    assert english.stem("wooden") != english.stem("woods")


def test_words_that_say_nothing_have_no_stem(english):
    tokens = english.tokens("Two men's dogs are standing in front of the X-ray !")
    assert [token.form for token in tokens if token.stem] == ["men", "dogs", "x-ray"]


def test_a_word_says_what_it_implies_to_the_end(english):
    assert english.implied("boy") == {"child", "person"}
    assert english.content("A puppy and a boy .") == {"puppi", "dog", "boy", "child", "person"}


def test_words_that_imply_each_other_end():
    words = QueryWords("xx", WordLists(implies={"a": "b", "b": "a"}))
    assert words.implied("a") == {"a", "b"}


def test_phrases_are_content_words_that_follow_each_other(english):
    found = english.phrases(english.tokens("A brown dog in the snow chasing black birds"))
    assert [written for _, written in found] == [
        "brown dog",
        "snow chasing",
        "chasing black",
        "black birds",
    ]
    assert english.implied_pairs(("young", "boy")) == {
        ("young", "boy"),
        ("young", "child"),
        ("young", "person"),
    }


def test_chinese_is_divided_and_its_phrases_may_be_joined(chinese):
    tokens = chinese.tokens("奔跑的狗。")
    assert [token.form for token in tokens] == ["奔跑", "的", "狗"]
    [(stems, written)] = chinese.phrases(tokens)
    assert written == "奔跑的狗"
    assert stems == ("跑", "狗")
    assert chinese.content("两个男子在海滩。") == {"男人", "人", "沙滩", "海边"}
    assert chinese.kind("海边", "海边") is Kind.SCENE


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ("beach", Kind.SCENE),
        ("buildings", Kind.SCENE),
        ("red", Kind.ADJECTIVE),
        ("running", Kind.ACTIVITY),
        ("juggling", Kind.ACTIVITY),
        ("string", Kind.NOUN),
        ("dogs", Kind.NOUN),
    ],
)
def test_the_lists_say_of_which_kind_a_word_is(english, form, kind):
    assert english.kind(english.stem(form), form) is kind


@pytest.mark.parametrize("language", ["en", "de", "zh"])
def test_bundled_lists_contradict_nothing(language):
    words, lists = QueryWords(language), WordLists.of_language(language)
    kinds = [
        {words.stem(word) for word in listed}
        for listed in (lists.scenes, lists.activities, lists.adjectives)
    ]
    ignored = {words.stem(word) for word in lists.ignored}
    for number, listed in enumerate(kinds):
        assert listed
        assert not listed & ignored
        for other in kinds[:number]:
            assert not listed & other
    for stem in {words.stem(word) for word in lists.implies}:
        assert stem not in words.implied(stem)


@pytest.mark.parametrize("language", ["en", "de", "zh"])
def test_absent_queries_are_sixty_in_each_language(language):
    texts = absent_queries(language)
    assert len(texts) == len(set(texts)) == 60
    assert all(text.strip() == text and text for text in texts)


def test_other_languages_have_stop_words_and_stems():
    french = QueryWords("fr")
    tokens = french.tokens("L'homme avec les chiens")
    assert [token.form for token in tokens if token.stem] == ["homme", "chiens"]
    assert french.stem("chiens") == french.stem("chien")
    assert absent_queries("fr") == []


@pytest.mark.parametrize("language", ["ja", "qq"])
def test_languages_that_cannot_be_read_are_refused(language):
    with pytest.raises(UsageError, match=language):
        QueryWords(language)


def test_a_variant_of_a_language_is_read_like_it():
    assert [base_language(name) for name in ("zh_mt", "pt-BR", "EN")] == ["zh", "pt", "en"]


def test_lists_of_ones_own_replace_the_bundled_ones(tmp_path):
    file = tmp_path / "words.toml"
    file.write_text('ignored = ["dog"]\nscenes = "cave  den"\n[same_as]\nhound = "wolf"\n')
    words = read_words("en", file)
    assert [token.stem for token in words.tokens("the dog")] == ["the", ""]
    assert words.kind("den", "den") is Kind.SCENE
    assert words.stem("hound") == "wolf"
    assert words.content("boy") == {"boy"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ignored = 3", "ignored"),
        ("ignored = [3]", "ignored"),
        ('same_as = "a"', "same_as"),
        ("implies = {a = 1}", "implies"),
        ('nouns = "a"', "nouns"),
        ("ignored =", "not TOML"),
    ],
)
def test_lists_of_another_form_are_refused(tmp_path, text, named):
    file = tmp_path / "words.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=named) as refused:
        read_words("en", file)
    assert str(file) in str(refused.value)


def test_a_file_of_lists_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_words("en", tmp_path)
