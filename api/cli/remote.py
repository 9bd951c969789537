"""Convert queries and answers of a service to those of a search here."""

import io
from dataclasses import fields
from urllib.parse import parse_qs, urlsplit

from PIL import Image

from api.client import Client, in_base64, search_request
from api.http.schemas import SearchRequest, ServedAnswer
from api.http.schemas.search import ServedHit
from retrieval.catalog import Item
from retrieval.errors import MMSearchError, UnreadableFileError, UsageError
from retrieval.media.audio import as_wave
from retrieval.media.images import LEAST_SIDE, reduced
from retrieval.rerankers.registry import AUTO, NONE
from retrieval.search.answer import Answer, Hit
from retrieval.search.query import (
    ANY,
    SOUND_RATE,
    AudioPart,
    ItemPart,
    JointQuery,
    Part,
    Reranking,
    TextPart,
    UnderstoodPart,
    VectorPart,
)


def request_of(joint: JointQuery, reranking: Reranking) -> SearchRequest:
    """Say a query in the words of the service.

    Raises UsageError for what a service cannot accept, and for a reranker by name, which only the
    service's operator chooses.
    """
    if reranking.name not in {AUTO, NONE}:
        raise UsageError(
            f"A service reranks with its own reranker: `--rerank` can be {AUTO} or {NONE}, not "
            f"{reranking.name}."
        )
    asked = vars(joint.query) | {
        "parts": [_part(part) for part in joint.query.parts],
        "modality": ANY if len(joint.modalities) > 1 else joint.modalities[0],
        "spaces": list(joint.space_ids),
        "rerank": reranking.name,
        "rerank_depth": reranking.depth,
        "rerank_budget_ms": reranking.budget_ms,
    }
    return search_request(asked)


def answer_of(answer: ServedAnswer) -> Answer:
    """An answer as the engine gives it; what a service does not tell of files is left empty."""
    return Answer(
        hits=tuple(_hit(hit) for hit in answer.hits),
        timings_ms=answer.timings_ms,
        warnings=tuple(answer.warnings),
        technical=tuple(answer.technical),
        reranker=answer.reranker,
        reranked=answer.reranked,
        mode=answer.mode,
        next_cursor=answer.next_cursor,
        understood=tuple(
            UnderstoodPart(part.words, part.kind, part.label, part.where)
            for part in answer.understood
        ),
        expected=answer.expected,
        left_out=answer.left_out,
        unknown_language=answer.unknown_language,
    )


def picture_of(client: Client, item: Item) -> Image.Image:
    """The picture of an item, small; raises UnreadableFileError for one that has none."""
    try:
        content = client.thumbnail(item.id, size=320, form="jpeg")
    except MMSearchError as error:
        raise UnreadableFileError(str(error)) from error
    return Image.open(io.BytesIO(content)).convert("RGB")


def _part(part: Part) -> dict[str, str | int | float]:
    if isinstance(part, VectorPart):
        raise UsageError("A service cannot be asked by a vector.")
    if isinstance(part, AudioPart):
        return {"audio": in_base64(as_wave(part.samples, SOUND_RATE)), "weight": part.weight}
    if isinstance(part, TextPart):
        return {"text": part.text, "weight": part.weight}
    if isinstance(part, ItemPart):
        return {"item": part.item_id, "weight": part.weight}
    return {"image": in_base64(reduced(part.image, LEAST_SIDE)), "weight": part.weight}


def _version(hit: ServedHit) -> str:
    """Read the version of a hit's picture from the address of its thumbnail; '' without one."""
    [version] = parse_qs(urlsplit(hit.thumbnail or "").query).get("v", [""])
    return version


def _hit(hit: ServedHit) -> Hit:
    told = dict(hit)
    in_file = {f.name: told[f.name] for f in fields(Item) if f.name in told}
    item = Item(id=hit.item_id, content_hash=_version(hit), size=0, mtime_ns=-1, **in_file)
    scores = {f.name: told[f.name] for f in fields(Hit) if f.name in told}
    return Hit(item=item, **scores | {"group": tuple(hit.group)})
