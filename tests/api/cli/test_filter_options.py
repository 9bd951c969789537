import json
import os
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cli.filter_options import parse_filter
from retrieval.errors import UsageError
from retrieval.filters import Filter, Range, TimeRange
from retrieval.media import MediaKind

REFERENCE = (Path(__file__).resolve().parents[3] / "docs" / "reference.md").read_text("utf-8")


def test_no_options_make_no_filter():
    assert parse_filter() is None


@pytest.mark.parametrize("has_text", [True, False])
def test_text_is_asked_for_or_ruled_out(has_text):
    assert parse_filter(has_text=has_text) == Filter(has_text=has_text)
    assert parse_filter(has_text=has_text) != Filter(has_text=not has_text)


def test_all_options_must_hold(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    wanted = parse_filter(
        source=Path("photos/../pictures"),
        path="*.jpg",
        kind="image, video",
        after="2023",
        before="2023-05-17T14:30+02:00",
        camera="canon",
        keyword="holiday",
        person="Ann",
        label="Red",
        min_rating=3,
        where='{"width": {"min": 3}}',
    )
    zone = timezone(timedelta(hours=2))
    assert wanted == Filter(
        source=os.path.join(tmp_path, "pictures"),  # noqa: PTH118
        path="*.jpg",
        kind=(MediaKind.IMAGE, MediaKind.VIDEO),
        taken_at=TimeRange(
            since=datetime(2023, 1, 1),
            before=datetime(2023, 5, 17, 14, 30, tzinfo=zone),
        ),
        camera="canon",
        keyword="holiday",
        person="Ann",
        label="Red",
        rating=Range(min=3),
        all_of=(Filter(width=Range(min=3)),),
    )


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2023", datetime(2023, 1, 1)),
        ("2023-05", datetime(2023, 5, 1)),
        (" 2023-05-17 ", datetime(2023, 5, 17)),
        ("2023-05-17T14:30", datetime(2023, 5, 17, 14, 30)),
        ("2023-05-17 14:30:10Z", datetime(2023, 5, 17, 14, 30, 10, tzinfo=UTC)),
    ],
)
def test_dates_may_be_short(text, moment):
    assert parse_filter(after=text).taken_at == TimeRange(since=moment)
    assert parse_filter(before=text).taken_at == TimeRange(before=moment)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"after": "soon"}, r"--after: 'soon' is not a date. Write 2023"),
        ({"before": "2023-13"}, r"--before: '2023-13' is not a date"),
        ({"before": "0000"}, r"is not a date"),
        ({"after": "2024", "before": "2023"}, r"nothing is taken .* put the earlier date first"),
        ({"after": "2024", "before": "2024"}, r"nothing is taken .* put the earlier date first"),
        ({"after": "2024-01-01T00Z", "before": "2024-01-01T01+02:00"}, r"nothing is taken"),
        ({"kind": "image,song"}, r"--kind: there is no kind 'song'. There are: image, video"),
        ({"where": "{"}, r"--where: Invalid JSON"),
        ({"where": '{"sauce": "/a"}'}, r"--where: sauce: Extra inputs"),
        ({"where": '{"or": []}'}, r"--where: or: "),
        ({"where": '{"width": {"min": "wide"}}'}, r"--where: width.min: "),
        ({"camera": ""}, r"camera: "),
        ({"source": Path(os.fsdecode(b"/\xff"))}, r"source: "),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(options, message):
    with pytest.raises(UsageError, match=message):
        parse_filter(**options)


@given(st.text(max_size=20))
def test_any_text_is_a_filter_or_a_usage_error(text):
    for name in ("path", "kind", "after", "before", "camera", "where"):
        with suppress(UsageError):
            assert parse_filter(**{name: text}) is not None


def test_every_example_of_the_reference_is_a_filter():
    section = REFERENCE.partition("\n## Filters\n")[2].partition("\n## ")[0]
    examples = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    fields = [
        field for cell in re.findall(r"\n\| (`.*?`) \|", section) for field in cell.split("`")
    ]
    fields = [field for field in fields if field.startswith('"') and "..." not in field]
    named = {next(iter(json.loads(f"{{{field}}}"))) for field in fields}
    assert named | {"and", "or", "not"} == {
        field.alias or name for name, field in Filter.model_fields.items()
    }
    for example in [*examples, *(f"{{{field}}}" for field in fields)]:
        assert not Filter.model_validate_json(example).is_empty
