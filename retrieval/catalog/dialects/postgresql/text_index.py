"""Full-text search in PostgreSQL: an inverted index (GIN) over our own words.

A document's words without their places are found by the index (tsvector); phrases, and how often a
document holds each, are counted in the words themselves, as a tsvector keeps at most 256 places of
a word and none beyond 16,383.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from retrieval.catalog.fulltext.words import Phrase, Term
from retrieval.catalog.schema import FILE_WORDS, ITEM_WORDS, WEIGHTS

K1 = 1.2
B = 0.75
"""The parameters of BM25 (Robertson and Zaragoza 2009), as FTS5 of SQLite has them."""

_LEAST_IDF = 1e-6
"""What a phrase counts that half of the documents hold or more, as in FTS5."""
_MOST_BYTES = 2**20 - 1
"""Of the words of a document that a tsvector takes."""


def creation() -> Iterable[str]:
    """Yield the statements that create the tables of both indices.

    `_size` counts documents and their words, which would take a search's time otherwise.
    """
    for table in (FILE_WORDS, ITEM_WORDS):
        name, columns = table.name, _columns(table)
        everything = " || ' ' || ".join(columns)
        fits = (
            f"CASE WHEN octet_length({everything}) <= {_MOST_BYTES} THEN {everything} "
            f"ELSE left({everything}, {_MOST_BYTES // 4}) END"
        )
        texts = ", ".join(f"{column} text COLLATE \"C\" NOT NULL DEFAULT ''" for column in columns)
        yield (
            f"CREATE TABLE {name} (rowid bigint PRIMARY KEY, {texts}, "
            f"words tsvector GENERATED ALWAYS AS (array_to_tsvector({_split(fits)})) STORED, "
            f"tokens integer GENERATED ALWAYS AS (cardinality({_split(everything)})) STORED)"
        )
        yield f"CREATE INDEX ix_{name}_words ON {name} USING gin (words)"
        yield f"DROP TABLE IF EXISTS {name}_size"
        yield f"CREATE TABLE {name}_size (documents bigint NOT NULL, tokens bigint NOT NULL)"
        yield f"INSERT INTO {name}_size VALUES (0, 0)"
        for event, rows, sign in (("insert", "NEW", "+"), ("delete", "OLD", "-")):
            yield (
                f"CREATE OR REPLACE FUNCTION {name}_{event}() RETURNS trigger LANGUAGE plpgsql "
                f"SET search_path FROM CURRENT AS $$ BEGIN UPDATE {name}_size SET "
                f"documents = documents {sign} (SELECT count(*) FROM changed), "
                f"tokens = tokens {sign} (SELECT coalesce(sum(tokens), 0) FROM changed); "
                "RETURN NULL; END $$"
            )
            yield (
                f"CREATE TRIGGER {name}_{event} AFTER {event.upper()} ON {name} "
                f"REFERENCING {rows} TABLE AS changed FOR EACH STATEMENT "
                f"EXECUTE FUNCTION {name}_{event}()"
            )


def document_count(
    table: sa.TableClause, all_of: Sequence[Sequence[Phrase]], most: int | None
) -> sa.Executable:
    """Count the documents that hold a phrase of each, up to `most`; without any, all."""
    if not all_of:
        return sa.text(f"SELECT documents FROM {table.name}_size")
    query = _Query(table)
    found = f"FROM {table.name} WHERE {query.holds_any([all_of])}"
    if most is None:
        return query.text(f"SELECT count(*) {found}")
    return query.text(f"SELECT count(*) FROM (SELECT 1 {found} LIMIT {int(most)}) AS matched")


def documents_with(
    table: sa.TableClause,
    phrases: Sequence[Phrase],
    among: Sequence[Sequence[Sequence[Phrase]]],
) -> sa.Executable:
    """Select the documents that hold any of the phrases, among those that `among` says."""
    query = _Query(table)
    wanted = query.holds_any([[phrases]])
    if [phrases] not in among:
        wanted += f" AND {query.holds_any(among)}"
    return query.text(f"SELECT rowid FROM {table.name} WHERE {wanted}")


def text_scores(
    table: sa.TableClause, terms: Sequence[Term], any_of: Sequence[Term]
) -> sa.Executable:
    """Score by BM25, over the phrases of all terms.

    A document's frequency of a phrase is the sum over its columns, times their weights.
    """
    query = _Query(table)
    times = Counter(phrase for term in terms for phrase in term.phrases)
    phrases = list(times)
    needed = {phrase for term in (any_of or terms) for phrase in term.phrases}
    columns = _columns(table)
    frequencies = [
        " + ".join(
            f"{weight} * {query.count(name, phrase)}"
            for name, weight in zip(columns, WEIGHTS[table.name], strict=True)
        )
        for phrase in phrases
    ]
    counts = [
        f"count(*) FILTER (WHERE f{place} > 0)"
        if phrase in needed
        else f"(SELECT count(*) FROM {table.name} WHERE {query.holds_any([[[phrase]]])})"
        for place, phrase in enumerate(phrases)
    ]
    length = f"{1 - B} + {B} * found.tokens * documents / size.tokens"
    parts = [
        f"{times[phrase]} * greatest(ln((documents - n{place} + 0.5e0) / (n{place} + 0.5e0)), "
        f"{_LEAST_IDF}) * f{place} * {K1 + 1} / (f{place} + {K1} * ({length}))"
        for place, phrase in enumerate(phrases)
    ]
    is_wanted = " + ".join(f"f{place}" for place, phrase in enumerate(phrases) if phrase in needed)
    wanted = query.bind(_any_query(needed))
    return query.text(
        "WITH found AS MATERIALIZED (SELECT rowid, tokens::float8 AS tokens, "
        + ", ".join(f"({said})::float8 AS f{place}" for place, said in enumerate(frequencies))
        + f" FROM {table.name} WHERE words @@ CAST({wanted} AS tsquery)), held AS (SELECT "
        + ", ".join(f"({said})::float8 AS n{place}" for place, said in enumerate(counts))
        + " FROM found), size AS (SELECT documents::float8 AS documents, "
        f"tokens::float8 AS tokens FROM "
        f"{table.name}_size) SELECT rowid, {' + '.join(parts)} AS score FROM found, held, size "
        f"WHERE {is_wanted} > 0 ORDER BY score DESC, rowid"
    )


class _Query:
    """A statement about a table of words, with its parameters."""

    def __init__(self, table: sa.TableClause) -> None:
        self._columns = _columns(table)
        self._values: dict[str, str] = {}

    def bind(self, value: str) -> str:
        """Add a parameter; returns how it is written."""
        name = f"w{len(self._values)}"
        self._values[name] = value
        return f":{name}"

    def text(self, statement: str) -> sa.Executable:
        """Make the statement."""
        return sa.text(statement).bindparams(**self._values)

    def holds_any(self, among: Sequence[Sequence[Sequence[Phrase]]]) -> str:
        """Write that a document holds, of one of these, one phrase of each."""
        written = "|".join(
            f"({'&'.join(f'({_any_query(phrases)})' for phrases in all_of)})" for all_of in among
        )
        by_index = f"words @@ CAST({self.bind(written)} AS tsquery)"
        if not any(" " in p.words for all_of in among for phrases in all_of for p in phrases):
            return by_index
        exact = " OR ".join(
            "(" + " AND ".join(f"({' OR '.join(map(self._holds, ps))})" for ps in all_of) + ")"
            for all_of in among
        )
        return f"({by_index} AND ({exact}))"

    def count(self, column: str, phrase: Phrase) -> str:
        """Write how often a column holds a phrase."""
        words = phrase.words.split(" ")
        end = "" if phrase.is_prefix else " "
        # Between two spaces each, words that follow each other are found one by one.
        apart = f"(' ' || replace({column}, ' ', '  ') || ' ')"
        if _may_overlap(words, is_prefix=phrase.is_prefix):
            first, *others = words
            pattern = self.bind(f" {first} (?= {'  '.join(others)}{end})")
            times = f"(SELECT count(*) FROM regexp_matches({apart}, {pattern}, 'g'))"
        else:
            wanted = f" {'  '.join(words)}{end}"
            rest = f"replace({apart}, {self.bind(wanted)}, '')"
            times = f"(octet_length({apart}) - octet_length({rest})) / {len(wanted.encode())}"
        # Most columns hold none, which is seen in a tenth of the time.
        return f"CASE WHEN strpos({column}, {self.bind(phrase.words)}) = 0 THEN 0 ELSE {times} END"

    def _holds(self, phrase: Phrase) -> str:
        if " " not in phrase.words:
            return f"words @@ CAST({self.bind(_any_query([phrase]))} AS tsquery)"
        wanted = self.bind(f" {phrase.words}" + ("" if phrase.is_prefix else " "))
        return " OR ".join(f"strpos(' ' || {c} || ' ', {wanted}) > 0" for c in self._columns)


def _columns(table: sa.TableClause) -> list[str]:
    return [column.name for column in table.c if column.name != "rowid"]


def _split(text: str) -> str:
    return f"array_remove(string_to_array({text}, ' '), '')"


def _any_query(phrases: Iterable[Phrase]) -> str:
    """Write phrases in the language of tsquery, without the order of their words."""
    written = []
    for phrase in sorted(phrases):
        words = [
            "'" + word.replace("\\", r"\\").replace("'", "''") + "'"
            for word in phrase.words.split(" ")
        ]
        written.append(f"({'&'.join(words)}{':*' if phrase.is_prefix else ''})")
    return "|".join(written)


def _may_overlap(words: Sequence[str], *, is_prefix: bool) -> bool:
    """Return whether a phrase can begin within itself, as `a a` does in `a a a`."""

    def may_be(word: str, other: str, *, is_last: bool) -> bool:
        return word == other or (is_prefix and is_last and other.startswith(word))

    return any(
        all(
            may_be(words[shift + place], words[place], is_last=shift + place == len(words) - 1)
            for place in range(len(words) - shift)
        )
        for shift in range(1, len(words))
    )
