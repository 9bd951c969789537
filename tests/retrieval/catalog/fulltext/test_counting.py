"""What is counted for the words of a query, in how many questions to the shards."""

from collections.abc import Sequence

from retrieval.catalog.fulltext.counting import count_documents
from retrieval.catalog.fulltext.search import DocumentCount


def test_words_are_counted_in_few_questions() -> None:
    asked: list[Sequence[DocumentCount]] = []

    def count(counts: Sequence[DocumentCount]) -> list[int]:
        asked.append(counts)
        return [1000 if not held else 10 for _, held, _ in counts]

    known = count_documents("a dog on the beach", count)
    assert len(asked) == 2
    assert known["file_words", (), None] == 1000
    words = {phrase.words for _, held, _ in known for all_of in held for phrase in all_of}
    assert {"dog", "beach"} <= words
    assert {most for _, held, most in known if held} == {502}


def test_frequent_words_are_counted_together() -> None:
    together = []

    def count(counts: Sequence[DocumentCount]) -> list[int]:
        together.extend(held for _, held, _ in counts if len(held) > 1)
        return [100_000 if not held else 20_000 for _, held, _ in counts]

    count_documents("dog beach", count)
    assert together


def test_nothing_is_asked_without_words() -> None:
    assert count_documents("?!", lambda _: []) == {}
