"""Which items show text: what the filter `has_text` means, as a condition over items and files."""

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from retrieval.catalog.dialects.base import Condition
from retrieval.catalog.enrichments import PICTURE_KEY, passages_of
from retrieval.catalog.schema import EnrichmentRecord, FileRecord, ItemRecord
from retrieval.media import Modality
from retrieval.recognition.base import Task


def shows_text() -> Condition:
    """Match texts, pages with a text of their own, and pictures in which text was recognised.

    A caption shows text if its picture does; what is said in a video shows none. Join items and
    files outside.
    """
    is_caption = ItemRecord.part.like(f"%-{Task.CAPTION}%")
    is_speech = ItemRecord.part.like(f"%-{Task.SPEECH}%")
    picture = aliased(ItemRecord)
    key = sa.case(
        (picture.part == "", FileRecord.content_hash),
        else_=FileRecord.content_hash + "-" + picture.part,
    )
    of_caption = sa.exists().where(
        picture.file_id == ItemRecord.file_id,
        picture.modality == Modality.IMAGE,
        passages_of(Task.CAPTION, picture.part),
        _is_recognised(key),
    )
    return sa.or_(
        sa.and_(ItemRecord.modality == Modality.TEXT, ~is_caption, ~is_speech),
        sa.and_(
            ItemRecord.modality == Modality.IMAGE,
            sa.or_(_is_recognised(PICTURE_KEY), _has_text_of_its_own(), _has_passages()),
        ),
        sa.and_(is_caption, of_caption.correlate(FileRecord, ItemRecord)),
    )


def _is_recognised(key: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    found = sa.select(EnrichmentRecord.key).where(
        EnrichmentRecord.task == Task.OCR, EnrichmentRecord.text.is_not(None)
    )
    return sa.and_(key.is_not(None), key.in_(found))


def _has_text_of_its_own() -> sa.Exists:
    own = aliased(ItemRecord)
    return (
        sa.exists()
        .where(
            own.file_id == ItemRecord.file_id,
            own.modality == Modality.TEXT,
            own.page == ItemRecord.page,
            own.part.not_like("%-%"),
        )
        .correlate(ItemRecord)
    )


def _has_passages() -> sa.Exists:
    """Match what has items of its text: all that a copy of a table knows of it."""
    passage = aliased(ItemRecord)
    return (
        sa.exists()
        .where(
            passage.file_id == ItemRecord.file_id,
            passage.modality == Modality.TEXT,
            passages_of(Task.OCR, ItemRecord.part, passage.part),
        )
        .correlate(ItemRecord)
    )
