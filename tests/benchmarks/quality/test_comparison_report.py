"""Reports of a comparison."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality.comparison import compare_records, find_changes
from benchmarks.quality.comparison_report import (
    NO_CONTENTS,
    Contents,
    changes_text,
    contents_of_dataset,
    contents_of_queries,
    write_comparison_report,
)
from benchmarks.quality.queries import FoundPhoto, QueryFigures
from benchmarks.quality.queries_comparison import QueriesRecord
from retrieval.errors import NotFoundError, UsageError


@pytest.fixture
def compared(measured):
    """A real result, and one in which everything is found first: both directions."""
    record, _ = measured
    better = {
        name: replace(
            direction,
            judgments=replace(direction.judgments, ranks=np.ones_like(direction.judgments.ranks)),
        )
        for name, direction in record.directions.items()
    }
    records = [record, replace(record, directions=better)]
    contents = contents_of_dataset(record)
    changes = [
        (each, contents[each.direction]) for each in find_changes(records, ["old", "new"], rank=1)
    ]
    return compare_records(records, ["mrr"], ["old", "<new>"]), changes


def test_the_report_shows_queries_wanted_and_found_in_one_file(compared, tmp_path):
    rows, changes = compared
    page = write_comparison_report(tmp_path / "report", rows, changes, count=5)
    text = page.read_text(encoding="utf-8")
    mended = sum(len(each.mended) for each, _ in changes)
    assert mended > 20
    assert text.count('class="failure mended"') == 10
    assert text.count('class="failure new"') == 0
    assert "the 5 largest changes" in text
    # Of a text the right picture and three found each time, of a picture itself.
    assert text.count("data:image/jpeg;base64,") == 5 * (1 + 3 + 3) + 5
    assert "then rank 1" in text
    assert 'src="http' not in text
    assert "&lt;new&gt;" in text
    assert "<new>" not in text
    assert "&lt;everywhere&gt;" in text
    assert "<everywhere>" not in text
    markdown = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert f"{len(changes[0][0].mended)} failures mended, 0 new" in markdown
    assert "noise" in markdown


def test_marks_are_of_right_items_only(compared, tmp_path):
    rows, [(changes, contents), _] = compared
    one = replace(changes, mended=changes.mended[:1])
    right = contents.wanted[one.mended[0].query]
    page = write_comparison_report(tmp_path, rows, [(one, contents)], count=1)
    found = [*one.mended[0].found_before, *one.mended[0].found_after]
    marked = page.read_text(encoding="utf-8").count('class="relevant"')
    assert marked == len(right) + sum(item in right for item in found)


def test_the_number_of_failures_is_limited(compared, tmp_path):
    rows, changes = compared
    with pytest.raises(UsageError, match="from 0 to 200"):
        write_comparison_report(tmp_path, rows, changes, count=201)
    page = write_comparison_report(tmp_path, rows, changes, count=0)
    assert "data:image" not in page.read_text(encoding="utf-8")


def test_what_is_not_there_any_more_is_told(compared, tmp_path):
    rows, [(changes, contents), _] = compared
    gone = Contents(contents.queries, {}, contents.wanted)
    page = write_comparison_report(tmp_path, rows, [(changes, gone)], count=2)
    assert "(not in the dataset any more)" in page.read_text(encoding="utf-8")
    page = write_comparison_report(tmp_path, rows, [(changes, NO_CONTENTS)], count=2)
    assert changes.mended[0].query in page.read_text(encoding="utf-8")


def test_texts_are_one_line_and_not_endless():
    contents = Contents({"q": "one\ntwo  " + "x" * 5000}, {}, {})
    text = contents.text_of("q")
    assert text.startswith("one two x")
    assert len(text) == 1000
    assert contents.text_of("other") == "other"


def test_a_dataset_that_is_gone_is_an_error(measured, tmp_path):
    record, _ = measured
    moved = {**record.dataset, "specification": f"jsonl:{tmp_path / 'gone'}"}
    with pytest.raises(NotFoundError):
        contents_of_dataset(replace(record, dataset=moved))


def test_contents_of_queries_are_those_of_all_runs():
    def query(found):
        return QueryFigures(
            text="dog",
            kind="noun",
            right=2,
            unsure=0,
            precision_at_10=0.1,
            ap=0.1,
            ndcg=0.1,
            shown=1,
            shown_precision=None,
            shown_recall=0,
            shown_f1=0,
            best_f1=0,
            first_rank=1,
            found=found,
            wanted=("a",),
        )

    runs = [
        QueriesRecord("x", "none", (query((FoundPhoto("b", 0), FoundPhoto("c", 2))),), ()),
        QueriesRecord("y", "none", (query((FoundPhoto("a", 1), FoundPhoto("d", -1))),), ()),
    ]
    contents = contents_of_queries(runs)["noun"]
    assert contents.wanted == {"dog": ["a", "c"]}
    assert set(contents.items) == {"a", "b", "c", "d"}
    assert contents.text_of("dog") == "dog"


def test_changes_of_each_kind_follow_one_another(compared):
    _, changes = compared
    text = changes_text(changes)
    assert text.index("text to image") < text.index("image to text")
