"""Find one modality by another where no encoder takes both: through texts that the library has."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from retrieval.catalog import Item, Snapshot
from retrieval.errors import UsageError
from retrieval.media import Modality
from retrieval.search.query import MAX_PARTS, JointQuery, Part, TextPart

MOST_TEXTS = 3
"""Texts that stand for a part of a query."""
_LONGEST = 200


def ask_by_texts(
    joint: JointQuery, needed: Collection[Modality], texts_of: Callable[[Part], Sequence[str]]
) -> tuple[JointQuery, str]:
    """Ask by texts instead of by the parts of a query that are none.

    Args:
        joint: The query.
        needed: What its parts are.
        texts_of: Gives the texts that stand for a part, which share its weight.

    Returns:
        The query by texts, and what the user is to know of it.

    Raises:
        UsageError: There are no texts.
    """
    asked, wanted = " and ".join(sorted(needed)), " or ".join(joint.modalities)
    parts: list[Part] = []
    said: dict[str, None] = {}
    for part in joint.query.parts:
        if isinstance(part, TextPart):
            parts.append(part)
            continue
        texts = dict.fromkeys(" ".join(text.split())[:_LONGEST] for text in texts_of(part))
        texts.pop("", None)
        said |= texts
        parts += [TextPart(text, part.weight / len(texts)) for text in texts]
    if not parts:
        raise UsageError(
            f"No encoder takes {asked} beside {wanted}, and the library has no texts, such as "
            "captions and transcripts, that would lead from the one to the other."
        )
    quoted = ", ".join(f'"{text}"' for text in said)
    doubt = (
        f"No encoder takes {asked} beside {wanted}: searched for by texts of the library, {quoted}."
    )
    return replace(joint, query=replace(joint.query, parts=tuple(parts[:MAX_PARTS]))), doubt


def own_texts(item: Item, snapshot: Snapshot) -> list[str]:
    """List what is known of an item in words: found by models, then what its file says of it."""
    found = [one.text for one in snapshot.enrichments_of(item) if one.text]
    told = snapshot.details(item).metadata.text
    return [*found, *([told] if told else [])][:MOST_TEXTS]
