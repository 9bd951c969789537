"""A search as the parameters of an address."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.http.schemas.items import MOST_IN_AN_ADDRESS, FilterText
from api.http.schemas.search import (
    Cursor,
    GroupByFile,
    HitCount,
    ItemNumber,
    Rerank,
)
from retrieval.filters import Filter, Moment, TimeRange
from retrieval.media import MediaKind, Modality
from retrieval.search.query import Mode, Sort

_Text = Annotated[str, Field(min_length=1, max_length=200)]
_Path = Annotated[str, Field(min_length=1, max_length=4096)]


class SimpleSearch(BaseModel):
    """A query and its filters; lists are parameters that are repeated."""

    model_config = ConfigDict(extra="forbid")

    q: Annotated[
        str | None,
        Field(min_length=1, max_length=MOST_IN_AN_ADDRESS, description="Text to search for."),
    ] = None
    item: Annotated[ItemNumber | None, Field(description="The id of an item to be like.")] = None
    k: HitCount = 10
    cursor: Annotated[
        Cursor | None,
        Field(max_length=MOST_IN_AN_ADDRESS, description="`next_cursor` of an earlier answer."),
    ] = None
    modality: Annotated[
        Modality | Literal["any"],
        Field(
            description="image: images, frames and pages; text: chunks of text; audio: windows of "
            "sound; any: all."
        ),
    ] = Modality.IMAGE
    mode: Annotated[Mode, Field(description="As in the body of a search.")] = Mode.AUTO
    min_relevance: Annotated[
        Annotated[float, Field(ge=0, le=1)] | Literal["auto"] | None,
        Field(description="Minimum relevance of a hit; auto: found by query."),
    ] = None
    group_by_file: GroupByFile = False
    rerank: Rerank = "auto"
    sort: Annotated[Sort, Field(description="relevance, date or date-asc.")] = Sort.RELEVANCE
    kind: Annotated[
        list[MediaKind], Field(max_length=len(MediaKind), description="Kinds of files: any.")
    ] = []
    path: Annotated[list[_Path], Field(max_length=20, description="Globs of paths: any.")] = []
    source: Annotated[
        list[_Path], Field(max_length=20, description="Absolute paths of folders or files: any.")
    ] = []
    since: Annotated[Moment | None, Field(description="Taken at or after a date.")] = None
    before: Annotated[Moment | None, Field(description="Taken before a date.")] = None
    camera: Annotated[_Text | None, Field(description="Part of the camera's name.")] = None
    place: Annotated[_Text | None, Field(description="Name of a city, region or country.")] = None
    keyword: Annotated[list[_Text], Field(max_length=20, description="Keywords: all.")] = []
    person: Annotated[list[_Text], Field(max_length=20, description="Names of people: all.")] = []
    where: FilterText = None

    def filter_with(self, where: Filter | None) -> Filter | None:
        """Build the filter of all parameters. where: the parsed `where`. Raises ValueError."""
        wanted: dict[str, object] = {
            name: value
            for name in ("camera", "place")
            if (value := getattr(self, name)) is not None
        }
        if self.kind:
            wanted["kind"] = tuple(self.kind)
        if self.since is not None or self.before is not None:
            wanted["taken_at"] = TimeRange(since=self.since, before=self.before)
        all_of = [where] if where is not None else []
        for name in ("keyword", "person"):
            all_of += [Filter.model_validate({name: one}) for one in getattr(self, name)]
        for name in ("path", "source"):
            if any_of := [Filter.model_validate({name: one}) for one in getattr(self, name)]:
                all_of.append(Filter.model_validate({"or": any_of}))
        if all_of:
            wanted["and"] = tuple(all_of)
        return Filter.model_validate(wanted) if wanted else None
