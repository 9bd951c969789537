"""One answer over several modalities and spaces: their rankings, joined by reciprocal ranks.

Similarities of a text with texts and with images are on different scales (modality gap), and so are
those of two encoders. So scores of two rankings are never compared: `rank_fusion` joins them by
ranks. Two rankings that name the same item say the same, and a passage of a document says so of the
picture of its page, as a text that a model found does of the picture that it was found in. A
passage of speech that words were found in says so of the shot in which they are said.

The joined ranking is made in blocks: the first 200 of each ranking are joined, then the next 800 of
each that were not given yet, and so on. What follows never changes what was given, so that pages
of any size fit together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from itertools import product
from typing import Any, Literal

from retrieval.catalog import Item
from retrieval.encoders.base import Space
from retrieval.errors import (
    EncoderUnavailableError,
    MMSearchError,
    NotFoundError,
    SpaceMismatchError,
    UsageError,
)
from retrieval.library import Library
from retrieval.media import Modality
from retrieval.recognition.base import Task
from retrieval.rerankers.registry import AUTO, NONE
from retrieval.search.answer import Answer, Hit, StageTimer
from retrieval.search.cursor import Cursor, digest_of
from retrieval.search.cut import AUTO as AUTO_CUT
from retrieval.search.encode import MODALITIES
from retrieval.search.engine import Engine
from retrieval.search.found_text import has_meaning, spoken_at
from retrieval.search.ordering import places_in_order
from retrieval.search.query import (
    MAX_K,
    AudioPart,
    ItemPart,
    JointQuery,
    Mode,
    ParsedQuery,
    Part,
    Query,
    Reranking,
    Sort,
)
from retrieval.search.rank_fusion import reciprocal_rank_fusion
from retrieval.search.relevance import is_calibrated
from retrieval.search.routes import choose_routes, require_takers, routes_in
from retrieval.search.through_text import MOST_TEXTS, ask_by_texts, own_texts
from retrieval.spaces import ordered_space_ids

MIN_PASSAGE_RELEVANCE = 0.25
"""Below it, a passage without the words of the query does not stand beside pictures.

Of 24 short queries to 7 and 94 chunks of text with `starter`, all passages that fit had 0.39 and
more, or the words, and of those that do not fit, one in 24 had as much.
"""

_FIRST_BLOCK = 200
_BLOCK_GROWTH = 4
_BEGIN, _ENDED = "", "0"
_INVALID = "Invalid cursor. Pass `next_cursor` of an earlier answer to the same query unchanged."
_DEFAULT_RERANKING = Reranking()

Asked = Query | JointQuery
"""What can be asked of a `JointEngine`; a query alone is one to its first space."""


@dataclass(frozen=True)
class Ranking:
    """One of the rankings that are joined: items of a modality, by their vectors in a space."""

    space_id: str
    modality: Modality


class JointEngine:
    """Answers queries over one or several spaces of a library, and for one or both modalities.

    space_ids: those that may be searched, the first by default; None: all of the library, its
    default space first. An encoder is loaded when its space is first searched.
    """

    def __init__(
        self, library: Library, space_ids: Sequence[str] | None = None, *, device: str = "auto"
    ) -> None:
        self.library = library
        self._device = device
        self._engines: dict[str, Engine] = {}
        self._is_generic = cache(self._has_generic_calibration)
        self._space_ids = tuple(dict.fromkeys(space_ids)) if space_ids else None
        self.main = self._engine((self._space_ids or (library.space().id,))[0])
        for space_id in self._space_ids or ():
            self._engine(space_id)

    @property
    def engines(self) -> tuple[Engine, ...]:
        """List the engines of the spaces that were named or searched, the default one first."""
        return tuple(self._engines.values())

    def search(self, query: Asked, reranking: Reranking = _DEFAULT_RERANKING) -> Answer:
        """Find the best k items; raises as `Engine.search`, and UsageError for an unknown space."""
        [answer] = self.search_many([(query, reranking)])
        if isinstance(answer, MMSearchError):
            raise answer
        return answer

    def search_many(
        self, requests: Sequence[tuple[Asked, Reranking]]
    ) -> list[Answer | MMSearchError]:
        """Answer several queries together, as `Engine.search_many`."""
        answers: dict[int, Answer | MMSearchError] = {}
        rankings: dict[int, list[Ranking]] = {}
        searches: dict[int, _Search] = {}
        joints = [_as_joint(asked) for asked, _ in requests]
        doubts: dict[int, tuple[str, ...]] = {}
        for place, joint in enumerate(joints):
            try:
                joints[place], rankings[place], doubts[place] = self._routed(joint)
            except (UsageError, NotFoundError) as error:
                answers[place] = error
        counts = self._row_counts() if any(len(of) > 1 for of in rankings.values()) else {}
        for place, of_query in rankings.items():
            try:
                joint = joints[place]
                searches[place] = _Search.of(
                    joint,
                    self._parse(joint, of_query),
                    requests[place][1],
                    of_query,
                    self._preferred(of_query),
                    counts,
                    doubts[place],
                )
            except UsageError as error:
                answers[place] = error
        timer = StageTimer()
        while searches:
            found = self._search(searches, timer)
            for place, search in list(searches.items()):
                outcome = search.take(found[place], self.library, timer)
                if outcome is not None:
                    answers[place] = outcome
                    del searches[place]
        return [answers[place] for place in range(len(requests))]

    def _engine(self, space_id: str) -> Engine:
        if self._space_ids is not None and space_id not in self._space_ids:
            raise UsageError(
                f"The space {space_id!r} is not searched here. Searched are: "
                f"{', '.join(self._space_ids)}. `mmsearch serve --space ID` adds others."
            )
        if space_id not in self._engines:
            self._engines[space_id] = self._make_engine(space_id)
        return self._engines[space_id]

    def _make_engine(self, space_id: str) -> Engine:
        return engine_of(self.library, space_id, device=self._device)

    def engine_for(self, modality: Modality) -> Engine:
        """Return the engine of the space in which items of a modality are found by default."""
        [(space_id, _)] = choose_routes([modality], (), self._spaces, self._has_rows)
        return self._engine(space_id)

    def _routed(self, joint: JointQuery) -> tuple[JointQuery, list[Ranking], tuple[str, ...]]:
        """List the rankings that a query joins, pictures first, and what is to be known of them.

        A query that no encoder takes beside what is wanted is asked by texts of the library.
        """
        needed = self._needed(joint.query)
        if joint.space_ids:
            spaces = [self._engine(space_id).space for space_id in joint.space_ids]
            routes = routes_in(spaces, joint.modalities, needed)
            return joint, [Ranking(*route) for route in routes], ()
        spaces = self._spaces
        doubts: tuple[str, ...] = ()
        routes = choose_routes(joint.modalities, needed, spaces, self._has_rows)
        if not routes:
            require_takers(needed, spaces)
            joint, doubt = ask_by_texts(joint, needed, self._texts_of)
            doubts = (doubt,)
            routes = choose_routes(joint.modalities, (), spaces, self._has_rows)
        rankings = []
        for space_id, modality in routes:
            try:
                if space_id != self.main.space.id:
                    self._engine(space_id).encoder  # noqa: B018 - loads it
            except (EncoderUnavailableError, SpaceMismatchError) as error:
                if len(routes) == 1:
                    raise
                doubts += (f"No {modality} was searched for: {error}",)
                continue
            rankings.append(Ranking(space_id, modality))
        return joint, rankings, doubts

    @cached_property
    def _spaces(self) -> list[Space]:
        """List the spaces that may be searched, the default one first."""
        main = self.main.space
        others = self._space_ids or ordered_space_ids(self.library)
        return [main, *(self.library.space(one) for one in others if one != main.id)]

    def _has_rows(self, space_id: str, modality: Modality) -> bool:
        with self.library.catalog.snapshot() as snapshot:
            return snapshot.row_count(space_id, modality) > 0

    def _needed(self, query: Query) -> set[Modality]:
        """List what an encoder must take for the parts of a query."""
        needed = {MODALITIES[type(part)] for part in query.parts if type(part) in MODALITIES}
        named = [part.item_id for part in query.parts if isinstance(part, ItemPart)]
        if named and len(self._spaces) > 1:
            with self.library.catalog.snapshot() as snapshot:
                needed.update(item.modality for item in snapshot.items_of_ids(named).values())
        return needed

    def _texts_of(self, part: Part) -> list[str]:
        """Return the texts that stand for a part of a query: its own, else those nearest to it."""
        if isinstance(part, ItemPart):
            with self.library.catalog.snapshot() as snapshot:
                item = snapshot.item(part.item_id)
                own = [] if item is None else own_texts(item, snapshot)
            if own:
                return own
        nearest = Query((part,), k=MOST_TEXTS, modality=Modality.TEXT, mode=Mode.VECTOR)
        needed = self._needed(nearest)
        routes = choose_routes([Modality.TEXT], needed, self._spaces, self._has_rows)
        if not routes:
            return []
        found = self._engine(routes[0][0]).search(nearest, Reranking(NONE))
        return [hit.item.text for hit in found if hit.item.text]

    def _parse(self, joint: JointQuery, rankings: Sequence[Ranking]) -> ParsedQuery:
        """Turn words of a query into filters, the same for all of several rankings."""
        if len(rankings) == 1:  # its engine does that
            return ParsedQuery(joint.query, joint.query)
        return self._engine(rankings[0].space_id).parse(joint.query, joint.modalities)

    def _row_counts(self) -> dict[Ranking, int]:
        with self.library.catalog.snapshot() as snapshot:
            return {
                Ranking(space_id, modality): snapshot.row_count(space_id, modality)
                for space_id, modality in product(self._engines, Modality)
            }

    def _preferred(self, rankings: Sequence[Ranking]) -> list[str]:
        """List the spaces of a query, those first whose relevance is calibrated for them."""
        space_ids = list(dict.fromkeys(ranking.space_id for ranking in rankings))
        return sorted(space_ids, key=self._is_generic) if len(space_ids) > 1 else space_ids

    def _has_generic_calibration(self, space_id: str) -> bool:
        space = self._engine(space_id).space
        return not is_calibrated(space, self.library.space_directory(space))

    def _reranking(self, reranking: Reranking, space_id: str) -> Reranking:
        """Leave a reranker that was named to the first space, as most are made for one space."""
        if space_id == self.main.space.id or reranking.name == NONE:
            return reranking
        return replace(reranking, name=AUTO)

    def _search(
        self, searches: Mapping[int, "_Search"], timer: StageTimer
    ) -> dict[int, dict[Ranking, Answer | MMSearchError]]:
        """Answer the next queries of each search, those to one space together."""
        found: dict[int, dict[Ranking, Answer | MMSearchError]] = {place: {} for place in searches}
        asked = {place: search.queries() for place, search in searches.items()}
        for space_id in {r.space_id for queries in asked.values() for r in queries}:
            to_space = [
                (place, ranking, query)
                for place, queries in asked.items()
                for ranking, query in queries.items()
                if ranking.space_id == space_id
            ]
            answers = self._engine(space_id).search_many(
                [
                    (query, self._reranking(searches[place].reranking, space_id))
                    for place, _, query in to_space
                ]
            )
            for (place, ranking, _), answer in zip(to_space, answers, strict=True):
                found[place][ranking] = answer
            # The answers of one call share their timings.
            first = next((answer for answer in answers if isinstance(answer, Answer)), None)
            for stage, ms in first.timings_ms.items() if first else ():
                timer.timings_ms[stage] = timer.timings_ms.get(stage, 0.0) + ms
        return found


@dataclass(frozen=True)
class _Position:
    """Where a joined answer ended.

    block: number of the block, from 0. given: hits so far. before: ids of all items of earlier
    blocks. inside: of those given of this block. starts: for each ranking, the cursor that its part
    of the block follows, without the items before; `_BEGIN` or `_ENDED`.
    """

    starts: tuple[str, ...]
    block: int = 0
    given: int = 0
    before: frozenset[int] = frozenset()
    inside: frozenset[int] = frozenset()

    @property
    def size(self) -> int:
        """Hits of each ranking in the block."""
        return min(_FIRST_BLOCK * int(_BLOCK_GROWTH**self.block), MAX_K - len(self.before))

    def encode(self, digest: bytes) -> str:
        outer = Cursor(digest, self.block, Mode.VECTOR, self.given, self.before)
        inner = Cursor(digest, 0, Mode.VECTOR, 0, self.inside)
        return ".".join([outer.encode(), inner.encode(), *self.starts])

    @classmethod
    def decode(cls, text: str, digest: bytes, count: int) -> "_Position":
        """Read the position of a query with a digest that joins `count` rankings."""
        outer_text, _, rest = text.partition(".")
        inner_text, *starts = rest.split(".")
        outer, inner = Cursor.decode(outer_text, digest), Cursor.decode(inner_text, digest)
        if len(starts) != count or len(outer.seen_ids) >= MAX_K:
            raise UsageError(_INVALID)
        block = min(outer.row_limit, MAX_K)
        return cls(tuple(starts), block, outer.reranked_count, outer.seen_ids, inner.seen_ids)


@dataclass
class _Entry:
    """What several rankings say of one item or, if hits are collapsed, of one file."""

    hits: list[tuple[Ranking, Hit, Item]] = field(default_factory=list)

    @property
    def ids(self) -> set[int]:
        return {item.id for _, hit, shown in self.hits for item in (hit.item, shown)}

    @property
    def relevance(self) -> float:
        """The best that any ranking says; 0 where none does."""
        return max(hit.relevance or 0.0 for _, hit, _ in self.hits)

    def as_hit(self, rank: int, preferred: Sequence[str], *, is_collapsed: bool) -> Hit:
        """Make the hit: scores are those of the preferred space that has any, pictures first."""
        space_id = min((r.space_id for r, _, _ in self.hits), key=preferred.index)
        _, main, _ = next(one for one in self.hits if one[0].space_id == space_id)
        _, first, shown = self.hits[0]
        texts = [
            hit for _, hit, page in self.hits if hit.item.text is not None and page.id == shown.id
        ]
        group = first.group
        if is_collapsed:
            others = (n for _, hit, _ in self.hits for n in (hit.item.id, *hit.group))
            group = tuple(n for n in dict.fromkeys(others) if n != shown.id)
        relevances = [
            hit.relevance
            for ranking, hit, _ in self.hits
            if ranking.space_id == space_id and hit.relevance is not None
        ]
        return Hit(
            rank,
            replace(shown, text=texts[0].item.text) if texts else shown,
            main.similarity,
            next((hit.match for _, hit, _ in self.hits if hit.match is not None), None),
            max(relevances, default=None),
            max((hit.words for _, hit, _ in self.hits if hit.words is not None), default=None),
            group,
            texts[0].found_by if texts else None,
        )


@dataclass
class _Search:
    """One query on its way: block by block, until its page is full or nothing is left.

    parsed: the query, whose words became filters if it joins several rankings. alone: the only
    ranking that has any items, whose answer is given as it is; the others of `rankings` have none.
    lead: the modality whose hits need no relevance. doubts: what is to be known of the query.
    spoken: when words of the query are said in what was found by them, by the id of the item.
    """

    joint: JointQuery
    parsed: ParsedQuery
    reranking: Reranking
    rankings: Sequence[Ranking]
    preferred: Sequence[str]
    digest: bytes
    position: _Position
    alone: Ranking | None
    cursor: str | None
    lead: Modality
    doubts: tuple[str, ...] = ()
    spoken: dict[int, float] = field(default_factory=dict)
    hits: list[Hit] = field(default_factory=list)
    answers: list[tuple[Ranking, Answer]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        joint: JointQuery,
        parsed: ParsedQuery,
        reranking: Reranking,
        rankings: Sequence[Ranking],
        preferred: Sequence[str],
        counts: Mapping[Ranking, int],
        doubts: tuple[str, ...] = (),
    ) -> "_Search":
        """Begin, or go on from the query's cursor. counts: rows of each ranking, if several."""
        query = joint.query
        lead = _lead(joint, rankings, counts)
        begun = partial(
            cls, joint, parsed, reranking, rankings, preferred, lead=lead, doubts=doubts
        )
        if len(rankings) == 1:
            return begun(
                digest=b"",
                position=_Position((_BEGIN,)),
                alone=rankings[0],
                cursor=query.cursor,
            )
        context = [[r.space_id, r.modality] for r in rankings]
        digest = digest_of(query, "joint", context, reranking.name, reranking.depth)
        alone, cursor = None, query.cursor
        if cursor is None:
            filled = [ranking for ranking in rankings if counts[ranking]]
            alone = (filled or rankings)[0] if len(filled) < 2 else None
            position = _Position(tuple(_BEGIN if r in filled else _ENDED for r in rankings))
        elif cursor.count(".") == 1:
            number, _, cursor = cursor.partition(".")
            known = {str(place): ranking for place, ranking in enumerate(rankings)}
            if number not in known:
                raise UsageError(_INVALID)
            alone, position = known[number], _Position((_ENDED,) * len(rankings))
        else:
            position = _Position.decode(cursor, digest, len(rankings))
        return begun(digest=digest, position=position, alone=alone, cursor=cursor)

    def queries(self) -> dict[Ranking, Query | ParsedQuery]:
        """Make the queries of the next block, one for each ranking that goes on."""
        position = self.position
        if self.alone:
            of_alone: dict[str, Any] = {"modality": self.alone.modality, "cursor": self.cursor}
            if len(self.rankings) == 1:
                return {self.alone: replace(self.joint.query, **of_alone)}
            return {self.alone: self._asked(**of_alone)}
        asked: dict[Ranking, Query | ParsedQuery] = {}
        for ranking, start in zip(self.rankings, position.starts, strict=True):
            if start == _ENDED:
                continue
            cursor = None
            if start != _BEGIN:
                cursor = replace(Cursor.read(start), seen_ids=position.before).encode()
            # Of items by date or name, the first may be the last of a ranking by relevance.
            k = MAX_K - len(position.before) if self._is_sorted else position.size
            asked[ranking] = self._asked(
                modality=ranking.modality, k=k, cursor=cursor, min_relevance=self._least(ranking)
            )
        return asked

    @property
    def _is_sorted(self) -> bool:
        return self.joint.query.sort is not Sort.RELEVANCE

    def _asked(self, **how: Any) -> ParsedQuery:
        """Change the query, as asked and as parsed."""
        asked = replace(self.parsed.asked, **how)
        return replace(self.parsed, asked=asked, query=replace(self.parsed.query, **how))

    def _needs_relevance(self, ranking: Ranking) -> bool:
        """Return whether a ranking is of passages or sounds beside pictures.

        They need the words of the query, or a relevance: however few texts a library has, the least
        unlike of them would stand among its first hits.
        """
        return ranking.modality is not self.lead and len(self.joint.modalities) > 1

    def _least(self, ranking: Ranking) -> float | Literal["auto"]:
        """Say from what relevance on hits of a ranking are asked for."""
        least = self.parsed.query.least
        if least == AUTO_CUT or not self._needs_relevance(ranking):
            return least
        return max(least, MIN_PASSAGE_RELEVANCE)

    def _relevant(self, ranking: Ranking, answer: Answer) -> Answer:
        """Leave out passages that are not relevant enough to stand beside pictures.

        Those of their engine's own cut may have too little relevance; a few recognised letters
        have none that could be trusted, without words of the query.
        """
        if not self._needs_relevance(ranking):
            return answer
        hits = [hit for hit in answer if hit.words is not None or _can_be_meant(hit.item)]
        if self.parsed.query.least == AUTO_CUT:
            hits = [hit for hit in hits if (hit.relevance or 0.0) >= MIN_PASSAGE_RELEVANCE]
        return replace(answer, hits=tuple(hits))

    def take(
        self,
        found: Mapping[Ranking, Answer | MMSearchError],
        library: Library,
        timer: StageTimer,
    ) -> Answer | MMSearchError | None:
        """Take in the answers to `queries`; returns the joined answer if it is complete."""
        block: dict[Ranking, Answer] = {}
        for ranking in self.rankings:
            answer = found.get(ranking)
            if isinstance(answer, MMSearchError):
                return answer
            if answer is not None:
                block[ranking] = answer if self.alone else self._relevant(ranking, answer)
        self.answers += block.items()
        self.spoken = self._spoken(block.values(), library)
        if self.alone:
            answer = self._alone(block[self.alone])
            answer = replace(answer, hits=tuple(map(self._opened, answer.hits)))
            return replace(answer, warnings=(*self.doubts, *answer.warnings))
        with timer("join"):
            entries = self._joined(block, library)
            position = replace(self.position, starts=self._starts(block, begin=True))
            left = [entry for entry in entries if not entry.ids & position.inside]
            page = left[: self.joint.query.k - len(self.hits)]
            is_collapsed = self.joint.query.group_by_file
            for entry in page:
                rank = position.given + 1
                hit = entry.as_hit(rank, self.preferred, is_collapsed=is_collapsed)
                self.hits.append(self._opened(hit))
                position = replace(
                    position, given=rank, inside=position.inside | frozenset(entry.ids)
                )
        if len(page) < len(left):
            is_last = len(position.before | position.inside) >= MAX_K
            return self._answer(None if is_last else position, timer)
        everything = position.before.union(
            *(entry.ids for entry in entries),
            (hit.item.id for answer in block.values() for hit in answer),
        )
        starts = self._starts(block, begin=False)
        self.position = _Position(starts, position.block + 1, position.given, everything)
        if all(start == _ENDED for start in starts) or len(everything) >= MAX_K:
            return self._answer(None, timer)
        is_full = len(self.hits) == self.joint.query.k
        return self._answer(self.position, timer) if is_full else None

    def _alone(self, answer: Answer) -> Answer:
        if len(self.rankings) == 1 or answer.next_cursor is None or self.alone is None:
            return answer
        number = self.rankings.index(self.alone)
        return replace(answer, next_cursor=f"{number}.{answer.next_cursor}")

    def _spoken(self, answers: Iterable[Answer], library: Library) -> dict[int, float]:
        """Tell when words of the query are said, in those hits that were found by them."""
        hits = [
            hit
            for answer in answers
            for hit in answer
            if hit.words is not None and hit.item.start_s is not None
        ]
        if not hits:
            return {}
        with library.catalog.snapshot() as snapshot:
            said = snapshot.enrichments(Task.SPEECH, {hit.item.content_hash for hit in hits})
        return spoken_at(self.parsed.query.words, hits, said)

    def _opened(self, hit: Hit) -> Hit:
        """Let a hit begin with the line that holds words of the query."""
        if (start_s := self.spoken.get(hit.item.id)) is None:
            return hit
        return replace(hit, item=replace(hit.item, start_s=start_s))

    def _shown_as(self, block: Mapping[Ranking, Answer], library: Library) -> dict[int, Item]:
        """Return what passages are shown by, by their ids: pictures, pages and shots."""
        passages = [
            hit.item
            for ranking, answer in block.items()
            for hit in answer
            if ranking.modality is Modality.TEXT and hit.item.has_picture
        ]
        shown: dict[int, Item] = dict(self._shots_of_passages(block))
        if not passages or Modality.IMAGE not in self.joint.modalities:
            return shown
        found = [p for p in passages if p.found_by not in {None, Task.SPEECH}]
        of_pages = [p for p in passages if p.found_by is None and p.page]
        with library.catalog.snapshot() as snapshot:
            pages = snapshot.page_pictures([(p.path, p.page) for p in of_pages if p.page])
            origins = [(p.path, p.origin_part) for p in found]
            pictures = snapshot.found_pictures(origins) if origins else {}
        for p in of_pages:
            if (page := pages.get((p.path, p.page or 0))) is not None:
                shown[p.id] = page
        for p in found:
            if (picture := pictures.get((p.path, p.origin_part))) is not None:
                shown[p.id] = picture
        return shown

    def _shots_of_passages(self, block: Mapping[Ranking, Answer]) -> dict[int, Item]:
        """Return the pictures or sounds in which the words of passages are said, by their ids.

        Each is that of one passage, which holds the line by which both were found.
        """
        hits = [hit for answer in block.values() for hit in answer if hit.item.id in self.spoken]
        passages: dict[str, dict[int, Item]] = {}
        for hit in hits:
            if hit.item.found_by is Task.SPEECH:
                passages.setdefault(hit.item.path, {})[hit.item.id] = hit.item
        shots: dict[int, Item] = {}
        for hit in hits:
            if hit.item.modality is Modality.TEXT:
                continue
            said_s = self.spoken[hit.item.id]
            for passage in passages.get(hit.item.path, {}).values():
                begin, end = passage.start_s or 0.0, passage.end_s or 0.0
                if passage.id not in shots and begin <= said_s <= end:
                    shots[passage.id] = hit.item
                    break
        return shots

    def _starts(self, block: Mapping[Ranking, Answer], *, begin: bool) -> tuple[str, ...]:
        """Say where each ranking begins in this block, or in the next one."""
        starts = []
        for ranking, start in zip(self.rankings, self.position.starts, strict=True):
            answer = block.get(ranking)
            if answer is None or answer.next_cursor is None:
                starts.append(start if begin else _ENDED)
            else:  # with the mode and rows that count, as decided at the first page
                cursor = Cursor.read(answer.next_cursor)
                starts.append(replace(cursor, seen_ids=frozenset()).encode())
        return tuple(starts)

    def _joined(self, block: Mapping[Ranking, Answer], library: Library) -> list[_Entry]:
        """Join the rankings of a block, without what was given before it."""
        query = self.parsed.query
        asked = [part.item_id for part in query.parts if isinstance(part, ItemPart)]
        unwanted = self.position.before | frozenset(asked if len(asked) == len(query.parts) else ())
        shown_as = self._shown_as(block, library)
        gone = set()
        if query.group_by_file and self.position.before:
            with library.catalog.snapshot() as snapshot:
                gone = snapshot.paths_of_items(sorted(self.position.before))
        entries: dict[int | str, _Entry] = {}
        keys: list[list[int | str]] = []
        for ranking, answer in block.items():
            of_ranking: dict[int | str, None] = {}
            for hit in answer:
                item = hit.item
                shown = shown_as.get(item.id, item)
                if shown.id in unwanted or item.path in gone:
                    continue
                key = item.path if query.group_by_file else shown.id
                of_ranking[key] = None
                entries.setdefault(key, _Entry()).hits.append((ranking, hit, shown))
            keys.append(list(of_ranking))
        if self._is_sorted:
            found = list(entries.values())
            order = places_in_order([entry.hits[0][2] for entry in found], query.sort)
            return [found[place] for place in order]
        fused = reciprocal_rank_fusion(keys)
        # First of each ranking or second of each: the more relevant comes first.
        fused.sort(key=lambda pair: (-pair[1], -entries[pair[0]].relevance))
        return [entries[key] for key, _ in fused]

    def _answer(self, position: _Position | None, timer: StageTimer) -> Answer:
        """Make the answer. position: where it ended; None: there is nothing left."""
        answers = [answer for _, answer in self.answers]
        modes = {answer.mode for answer in answers}
        expected, left_out = self._estimates()
        unknown = (answer.unknown_language for answer in answers)
        return Answer(
            tuple(self.hits),
            timer.timings_ms,
            tuple(dict.fromkeys((*self.doubts, *(w for a in answers for w in a.warnings)))),
            reranker=next((a.reranker for a in answers if a.reranker), None),
            reranked=max((answer.reranked for answer in answers), default=0),
            mode=modes.pop() if len(modes) == 1 else Mode.HYBRID if modes else Mode.VECTOR,
            next_cursor=None if position is None else position.encode(self.digest),
            understood=self.parsed.understood,
            expected=expected,
            left_out=left_out,
            unknown_language=next(filter(None, unknown), None),
            technical=tuple(dict.fromkeys(text for answer in answers for text in answer.technical)),
        )

    def _estimates(self) -> tuple[float | None, int]:
        """Add up `expected` and `left_out` of the modalities, each by its preferred space."""
        of_modality: dict[Modality, Answer] = {}
        for ranking, answer in sorted(
            self.answers, key=lambda pair: self.preferred.index(pair[0].space_id)
        ):
            of_modality.setdefault(ranking.modality, answer)
        expected = [a.expected for a in of_modality.values() if a.expected is not None]
        # Passages that only need a relevance to stand beside pictures were not asked for.
        is_cut = self.parsed.query.least != 0
        left_out = sum(answer.left_out for answer in of_modality.values()) if is_cut else 0
        return sum(expected) if expected else None, left_out


def _can_be_meant(passage: Item) -> bool:
    return passage.found_by is not Task.OCR or has_meaning(passage.text or "")


def _lead(
    joint: JointQuery, rankings: Sequence[Ranking], counts: Mapping[Ranking, int]
) -> Modality:
    """Return the modality whose hits need no relevance.

    It is that of pictures; of sounds where a sound is asked for, or there are no pictures.
    """
    filled = {ranking.modality for ranking in rankings if counts.get(ranking)}
    is_sound = any(isinstance(part, AudioPart) for part in joint.query.parts)
    if is_sound or (Modality.AUDIO in filled and Modality.IMAGE not in filled):
        return Modality.AUDIO
    return Modality.IMAGE


def engine_of(library: Library, space_id: str | None = None, *, device: str = "auto") -> Engine:
    """Make the engine of a space of a library, by where the library is. (default space: its own)

    Raises UsageError for an unknown space.
    """
    if library.is_table:
        from retrieval.search.lance_engine import LanceEngine

        return LanceEngine(library, space_id=space_id, device=device)
    return Engine(library, space_id=space_id, device=device)


def _as_joint(asked: Asked) -> JointQuery:
    return asked if isinstance(asked, JointQuery) else JointQuery(asked, (asked.modality,))
