"""What the texts and JSON files of a shard say of the image that they are named like."""

import json
import math
from dataclasses import replace
from typing import Any

from retrieval.media import Metadata

CAPTION = "caption"
"""The column of a text."""
_MOST_COLUMNS = 100
_LONGEST_VALUE = 10_000


def with_caption(metadata: Metadata, data: bytes, *, is_json: bool) -> Metadata:
    """Add a caption, or the fields of a JSON object, to what is said of an image.

    A field is a column, as of a table's row; a field of a name that was said before is left out, so
    that what stands in the file itself counts. Raises ValueError for what is no text or no JSON.
    """
    text = data.decode("utf-8-sig")
    said = json.loads(text) if is_json else {CAPTION: text.strip()}
    if not isinstance(said, dict):
        raise ValueError("is no JSON object")  # noqa: TRY004 - it is about the file
    columns = dict(metadata.columns or {})
    for name, value in list(said.items())[:_MOST_COLUMNS]:
        if (fit := _fit(value)) not in (None, "", []):
            columns.setdefault(_clean(name), fit)
    return replace(metadata, columns=columns or None)


def _fit(value: Any) -> Any:
    """Make a value fit for a column: text, numbers, booleans, lists of these; None for others."""
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, list):
        singles = [_fit(one) for one in value[:_MOST_COLUMNS] if not isinstance(one, list)]
        return [one for one in singles if one is not None]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else float(value) if abs(value) < 10**300 else None
    return None


def _clean(text: str) -> str:
    whole = text.replace("\0", "").encode("utf-8", "replace").decode()
    return whole if len(whole) <= _LONGEST_VALUE else whole[: _LONGEST_VALUE - 1] + "…"
