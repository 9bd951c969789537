"""Words are found and scored as FTS5 of SQLite finds and scores them."""

import random

import pytest
import sqlalchemy as sa

from retrieval.catalog import Catalog
from retrieval.catalog.fulltext.words import Phrase, Term
from retrieval.catalog.schema import FILE_WORDS, ITEM_WORDS

pytestmark = pytest.mark.slow

WORDS = ["a", "b", "ab", "abc", "雪", "大", "é", "x1", "abba", "dog"]
PHRASES = [
    *(Phrase(word) for word in WORDS),
    *(Phrase(word, is_prefix=True) for word in ("a", "ab", "d", "雪")),
    *(Phrase(words) for words in ("a a", "a b", "a b a", "大 雪", "b b b", "dog a")),
    *(Phrase(words, is_prefix=True) for words in ("a a", "b a", "a b a")),
]


@pytest.fixture(scope="module")
def catalogs(new_schema, tmp_path_factory):
    """The same documents in both databases: short ones, one of many words, and none of many."""
    draw = random.Random(0)

    def words(most):
        return " ".join(draw.choices(WORDS, range(len(WORDS), 0, -1), k=draw.randrange(most)))

    files = [(n, *(words(6) for _ in range(5))) for n in range(1, 300)]
    files.append((300, "", "a b " * 20_000 + "end", "", "", ""))
    items = [(n, words(12), words(3)) for n in range(1, 200)]
    made = [Catalog(tmp_path_factory.mktemp("sqlite") / "x.sqlite"), Catalog(new_schema())]
    for catalog in made:
        catalog.migrate()
        with catalog.dialect.connect(write=True) as connection:
            for table, rows in ((FILE_WORDS, files), (ITEM_WORDS, items)):
                catalog.dialect.insert_rows(connection, table, table.c.keys(), rows)
                connection.execute(sa.delete(table).where(table.c.rowid.in_([3, 4, 77])))
    yield made
    for catalog in made:
        catalog.close()


def rows_of(catalog, query):
    with catalog.dialect.connect(write=False) as connection:
        return [tuple(row) for row in connection.execute(query)]


@pytest.mark.parametrize("table", [FILE_WORDS, ITEM_WORDS], ids=str)
@pytest.mark.parametrize("phrase", PHRASES, ids=str)
def test_a_phrase_is_found_as_by_sqlite(catalogs, table, phrase):
    theirs, ours = (
        sorted(rows_of(c, c.dialect.documents_with(table, [phrase], [[[phrase]]])))
        for c in catalogs
    )
    assert ours == theirs
    for most in (None, 5):
        counted = [
            rows_of(c, c.dialect.document_count(table, [[phrase], [Phrase("a")]], most))
            for c in catalogs
        ]
        assert counted[0] == counted[1]


@pytest.mark.parametrize("seed", range(40))
def test_scores_are_those_of_sqlite(catalogs, seed):
    draw = random.Random(seed)
    terms = [
        Term(tuple(draw.sample(PHRASES, draw.randint(1, 3)))) for _ in range(draw.randint(1, 4))
    ]
    any_of = draw.sample(terms, draw.randint(1, len(terms))) if seed % 2 else []
    for table in (FILE_WORDS, ITEM_WORDS):
        theirs, ours = (
            dict(rows_of(c, c.dialect.text_scores(table, terms, any_of=any_of))) for c in catalogs
        )
        assert ours.keys() == theirs.keys()
        assert ours == pytest.approx(theirs, rel=1e-9)
        assert list(ours.values()) == sorted(ours.values(), reverse=True)


@pytest.mark.parametrize("seed", range(20))
def test_documents_are_chosen_as_by_sqlite(catalogs, seed):
    draw = random.Random(seed)
    phrases = draw.sample(PHRASES, 2)
    among = [
        [draw.sample(PHRASES, draw.randint(1, 2)) for _ in range(draw.randint(1, 2))]
        for _ in range(draw.randint(1, 3))
    ]
    for table in (FILE_WORDS, ITEM_WORDS):
        theirs, ours = (
            sorted(rows_of(c, c.dialect.documents_with(table, phrases, among))) for c in catalogs
        )
        assert ours == theirs


def test_documents_are_counted_without_looking_at_them(catalogs):
    for table in (FILE_WORDS, ITEM_WORDS):
        theirs, ours = (rows_of(c, c.dialect.document_count(table)) for c in catalogs)
        assert ours == theirs
    assert catalogs[1].dialect.find_damage() == []


@pytest.mark.parametrize("word", ["it's", 'a"b', "back\\slash", "a:b", "(a|b)", "%", "'); DROP"])
def test_no_word_is_syntax(catalogs, word):
    ours = catalogs[1]
    terms = [Term((Phrase(word), Phrase(f"{word} {word}", is_prefix=True)))]
    for any_of in ([], terms):
        assert rows_of(ours, ours.dialect.text_scores(FILE_WORDS, terms, any_of=any_of)) == []


def test_more_words_than_an_index_takes_are_no_error(catalogs):
    ours = catalogs[1]
    many = " ".join(f"wort{number:058}" for number in range(20_000))
    with ours.dialect.connect(write=True) as connection:
        row = (9000, many, "", "", "", "")
        ours.dialect.insert_rows(connection, FILE_WORDS, FILE_WORDS.c.keys(), [row])
        wanted = [Phrase(f"wort{1:058}")]
        query = ours.dialect.documents_with(FILE_WORDS, wanted, [[wanted]])
        assert connection.execute(query).all() == [(9000,)]
        connection.rollback()
