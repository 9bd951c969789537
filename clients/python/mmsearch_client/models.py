"""Requests and answers of the service.

`python -m tools.client_package` writes this module; do not edit it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

JobKind = Literal["index", "upload", "texts"]
JobState = Literal["waiting", "running", "succeeded", "failed", "cancelled"]
MediaKind = Literal["image", "video", "audio", "document", "text", "table"]
Modality = Literal["image", "text", "audio"]
Mode = Literal["auto", "vector", "text", "hybrid"]
Order = Literal["oldest", "newest", "date", "date-asc", "name", "collection"]
PartKind = Literal["time", "place", "camera", "folder"]
Sort = Literal["relevance", "date", "date-asc", "name"]
TakenFrom = Literal["metadata", "mtime"]
Task = Literal["ocr", "speech", "caption"]
ThumbnailFormat = Literal["webp", "jpeg"]
ThumbnailSize = Literal[160, 320, 640, 1280, 2560]
TranscriptForm = Literal["vtt", "srt", "txt"]


class ArchiveRequest(BaseModel):
    """Files to download as one archive: those of some items, or of a collection."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    items: list[int] | None = None
    """Ids of items."""
    collection: str | None = None
    """Name of a collection."""


class Archive(BaseModel):
    """An archive that is made while it is downloaded."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    url: str
    """Where it is; needs no API key."""
    name: str
    """Name of the file."""
    files: int
    """Number of files in it."""
    bytes: int
    """Size of these files."""
    seconds: int
    """How long the URL can be used."""


class AskRequest(BaseModel):
    """A question about an image: an item of the library, or an image file."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    question: str
    item: int | None = None
    """Id of an item with a picture."""
    image: str | None = None
    """An image file in base64."""
    max_tokens: int = 64
    """Maximum length of the text in tokens."""


class BatchAnswer(BaseModel):
    """One entry a query, in the order of the queries."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    answers: list[BatchEntry]


class BatchEntry(BaseModel):
    """The answer to one query, or why there is none."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    answer: Answer | None = None
    """null: it failed."""
    problem: Problem | None = None
    """null: it was answered."""


class BatchRequest(BaseModel):
    """Queries, each as the body of a search."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    queries: list[SearchRequest]
    """Bodies of searches."""


class CacheStats(BaseModel):
    """Hits and misses of the cache of query vectors, since the start."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    hits: int
    misses: int


class Changed(BaseModel):
    """What a request changed."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    changed: int
    """Number of items that were not so before."""


class Changes(BaseModel):
    """Whether the library has changed, and what was added."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    revision: int
    """Differs from that of an earlier answer if the library has changed."""
    last_item: int
    """Id of the item that was added last; 0: none."""
    images: int
    """Images, frames and pages added after `after`; at most 10,000."""
    texts: int
    """Chunks added after `after`; at most 10,000."""
    jobs: int
    """Number of unfinished jobs of this service."""
    sounds: int = 0
    """Windows of sound added after `after`; at most 10,000."""


class CollectionList(BaseModel):
    """All collections, by name."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    collections: list[Collection]


class Collection(BaseModel):
    """A named collection of items."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    id: int
    name: str
    created_at: datetime
    items: int
    """Number of items that it shows."""


class ColumnTest(BaseModel):
    """Condition on a table column, in the row of the item itself or in a row about its file."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    equals: str | int | float | bool | None = None
    contains: str | None = None
    min: float | None = None
    max: float | None = None


class Creation(BaseModel):
    """A library that was created, or was there already."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    created: bool
    encoder: str


class DescribeRequest(BaseModel):
    """An image to describe: an item of the library, or an image file."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    item: int | None = None
    """Id of an item with a picture."""
    image: str | None = None
    """An image file in base64."""
    max_tokens: int = 64
    """Maximum length of the text in tokens."""
    prompt: str | None = None
    """What to write, for models with a chat template; how it begins, for BLIP."""


class EmbedRequest(BaseModel):
    """Texts and images to embed, at least one."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    texts: list[str] = []
    images: list[str] = []
    """Image files in base64."""


class Embeddings(BaseModel):
    """Vectors of unit L2 norm in one space, in the order of the request.

    Eight significant digits: float32 to within one unit in the last place."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    space: str
    """Vectors of other spaces cannot be compared."""
    dimension: int
    texts: list[list[float]]
    images: list[list[float]]


class Explanation(BaseModel):
    """Explanation why a text and an image match; words in the order of the text."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    text: str
    match: float
    """Logit of the reranker; 0 means even odds."""
    similarity: float
    """Cosine of both vectors, -1 to 1."""
    words: list[Word]
    heat: list[list[float]]
    """Attention over the view: rows from top to bottom, not negative, sum 1. Four significant digits."""
    view: tuple[float, float, float, float]
    """Box that the heat maps cover: left, top, right and bottom in pixels of the upright image."""
    found_text: list[FoundTextInPicture]
    """Lines that models found, with words of the text, in reading order."""


class FacetValueMediaKind(BaseModel):
    """As the service describes it."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    value: MediaKind
    count: int


class FacetValueUnionStrIntFloatBool(BaseModel):
    """As the service describes it."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    value: str | int | float | bool
    count: int


class FacetValueStr(BaseModel):
    """As the service describes it."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    value: str
    count: int


class FacetValues(BaseModel):
    """Values of one facet: folders by path, dates newest first, others the most frequent first."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    total: int
    """Number of items that were counted."""
    is_partial: bool
    """Whether the query has more hits than were counted."""
    values: list[NestedValue]
    left_out: int
    """Number of values that are not in the answer. Of a column with more than 1,000, those that `contains` finds are counted alone."""


class Facets(BaseModel):
    """Counts of items by value, each facet with its most frequent values."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    total: int
    """Number of items that were counted."""
    is_partial: bool
    """Whether the query has more hits than were counted."""
    years: list[FacetValueStr]
    """As `2019`, the newest first."""
    months: list[FacetValueStr]
    """As `2019-05`, the newest first."""
    folders: list[FacetValueStr]
    """Sources and the first two levels of folders in them, by path."""
    places: list[FacetValueStr]
    """Names of places."""
    cameras: list[FacetValueStr]
    """Names of cameras."""
    kinds: list[FacetValueMediaKind]
    """Kinds of files."""
    columns: dict[str, list[FacetValueUnionStrIntFloatBool]]
    """Values of table columns, by name of the column."""
    collections: list[FacetValueStr] = []
    """Names of collections."""


class Failure(BaseModel):
    """A file that could not be read."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    path: str
    """Bytes that are not valid UTF-8 are escaped."""
    reason: str


class FileLink(BaseModel):
    """An address of a file that needs no API key."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    url: str
    """Add `&download=true` or `?download=true` to save it."""
    expires_at: datetime | None
    """When it stops to be valid; null: the service has no keys."""


class Filter(BaseModel):
    """Filter of items; all given fields must hold. An empty filter matches everything.

    At most 8 levels and 100 conditions in total."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    source: str | None = None
    path: str | None = None
    kind: list[MediaKind] | None = None
    taken_at: TimeRange | None = None
    width: Range | None = None
    height: Range | None = None
    has_text: bool | None = None
    camera: str | None = None
    camera_name: str | None = None
    place: str | None = None
    gps: GeoBox | None = None
    rating: Range | None = None
    label: str | None = None
    keyword: str | None = None
    person: str | None = None
    collection: str | None = None
    hidden: bool | Literal["any"] | None = None
    columns: dict[str, ColumnTest] | None = None
    all_of: list[Filter] | None = Field(default=None, alias="and")
    any_of: list[Filter] | None = Field(default=None, alias="or")
    none_of: Filter | None = Field(default=None, alias="not")


class Folder(BaseModel):
    """A folder of the machine of the service."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    name: str
    path: str
    is_source: bool
    """Whether it is a source, or lies in one."""


class FolderList(BaseModel):
    """The folders in a folder, or those that all others lie in."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    path: str | None
    """null: the folders of `--index-below`."""
    parent: str | None
    """null: none, or one that may not be indexed."""
    folders: list[Folder]
    """By name, without hidden ones and links."""
    files: int
    """Files right in it whose names are of known formats; at most 10,000"""
    is_cut: bool
    """Whether there are more than are listed."""


class FoundTextInPicture(BaseModel):
    """A line of recognised text, or of a caption, that holds words of the text to explain."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    task: Task
    """ocr: in the picture; caption: of what it shows."""
    line: str
    """The line as the model found it."""
    found_words: list[str]
    """Words of the text that are in it."""
    confidence: float | None
    """Of the model, 0 to 1."""
    box: list[tuple[float, float]] | None
    """Its four corners (x, y), clockwise from the upper left of the text, as fractions of the upright picture's width and height; null: of no place."""


class FoundText(BaseModel):
    """What one task found."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    task: Task
    """ocr: in the picture; speech: in the whole file; caption: generated, of what the picture shows."""
    model: str
    """The model that found it, with its version."""
    text: str
    """All of it, a line a segment; empty: nothing."""
    segments: list[Segment]
    failure: str | None = None
    """Why the model could not look."""


class GeneratedText(BaseModel):
    """What a model has written about an image; it may be wrong."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    model: str
    """Name of the model that wrote the text."""
    text: str


class GeoBox(BaseModel):
    """Bounding box in degrees; west > east if it crosses the 180th meridian."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    south: float
    north: float
    west: float
    east: float


class Health(BaseModel):
    """Status of the service, and its encoder; without a library, what to do."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    status: str
    encoder: str | None = None
    detail: str | None = None
    first_command: str | None = None
    may_create: bool | None = None


class IndexRequest(BaseModel):
    """Paths to index, and how."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    paths: list[str] | None = None
    """Absolute paths in the library's sources; null: all sources."""
    retry_failed: bool = False
    """Also read files again that failed and have not changed."""
    kinds: list[MediaKind] | None = None
    """Kinds of files to index, remembered by the sources that are named."""
    hidden: bool | None = None
    """Whether to index hidden files and folders, remembered by the sources that are named."""
    ocr: bool | None = None
    """Whether to find the text in pictures, video frames and scanned pages of the whole library, from now on; null: as before, at first not."""


class IndexStats(BaseModel):
    """Index of one modality."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    modality: Modality
    kind: str
    """`exact`, or the FAISS factory string of the index."""
    rows: int
    """Number of vectors, including removed items."""
    rows_covered: int
    """Rows in the index; the others are searched exactly."""
    generation: int | None
    """Generation of the index."""
    created: str | None
    reasons: list[str]
    """Reasons for this kind of index."""


class ItemList(BaseModel):
    """A page of items."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    items: list[ListedItem]
    next_cursor: str | None
    """null: this is the last page."""


class Item(BaseModel):
    """An item and the metadata of its file."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    item_id: int
    path: str
    """Bytes that are not valid UTF-8 are escaped."""
    kind: MediaKind
    modality: Modality
    width: int | None
    height: int | None
    page: int | None
    """Page of a document, from 1."""
    time_s: float | None
    """Time of a video frame in seconds."""
    start_s: float | None
    """When it begins, in seconds of its file."""
    end_s: float | None
    """When it ends, in seconds of its file."""
    text: str | None
    """The chunk of text."""
    found_by: Task | None
    """Of a text that a model found: in a picture (ocr), in speech, or of what a picture shows (caption); null: it stands in the file."""
    columns: dict[str, Any] | None
    """Other values of the table row."""
    taken_local: str | None
    """Date and time that the camera's clock showed, without a time zone."""
    taken_from: TakenFrom | None
    """metadata: of the file; mtime: its modification time, for want of a date."""
    bytes: int
    """Size of the file."""
    thumbnail: str | None
    """URL of the thumbnail, cacheable for ever; null: none."""
    taken_at: datetime | None
    """Instant of the date in the file (taken as UTC where it tells no time zone), else its modification time; null until the next run if the file had only just changed when it was indexed."""
    camera: str | None
    latitude: float | None
    longitude: float | None
    place: str | None
    """Names of the place, one per line: cities, county, region, country."""
    duration_s: float | None
    description: str | None
    """Title, description and keywords of the file, one per line."""
    annotations: list[dict[str, Any]]
    """Table rows about the file."""
    date_source: str | None = None
    """What tells the date: exif, gps, xmp, iptc, text (of a PNG), pdf, video, sidecar; null: nothing does."""
    notes: list[str] = []
    """What of the file could not be read."""


class ItemTexts(BaseModel):
    """Texts that models found in an item; tasks that have not looked at it are left out."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    texts: list[FoundText]


class ItemsBody(BaseModel):
    """Items to do something with."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    items: list[int]
    """Ids of items."""


class JobList(BaseModel):
    """Jobs of this service since its start, newest first."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    jobs: list[Job]


class JobProgress(BaseModel):
    """Progress of a job, in files to read, pictures to look at, or steps of building an index."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    stage: str
    """`files`; of `texts` jobs the task: `ocr`, `speech` or `caption`; or a stage of building an index."""
    done: int
    total: int | None
    """null while directories are scanned."""
    failed: int
    """Files that could not be read."""


class JobResult(BaseModel):
    """Counts of a job, also of a cancelled one; in files, except `embedded`."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    found: int
    added: int
    changed: int
    unchanged: int
    moved: int
    duplicates: int
    removed: int
    failed: int
    embedded: int
    """Number of embedded images and chunks."""
    seconds: float
    interrupted: bool
    relocated: int = 0
    """Files re-rooted with a source that was moved as a whole."""
    refreshed: int = 0
    """Unchanged, but their metadata was read again."""
    noted: int = 0
    """Indexed files of which something could not be read."""
    notes: list[str] = []
    """Sources that were moved or are missing, and what to do."""
    endings: dict[str, int] = {}
    """Number of files of other kinds passed over, by ending."""
    system_folders: dict[str, int] = {}
    """Number of system folders passed over, by name."""
    indices: list[str] = []
    """Indices that were built."""
    problems: list[str] = []
    """Problems that did not fail the job."""
    files: list[UploadedFile] | None = None
    """Files of an upload."""
    texts: list[TaskResult] = []
    """Of a `texts` job, by task."""


class Job(BaseModel):
    """A background job. `succeeded`, `failed`, `cancelled` are final."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    id: str
    kind: JobKind
    state: JobState
    cancelling: bool
    """Whether it ends after the current batch."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: JobProgress
    result: JobResult | None
    error: str | None
    """Reason of a failure."""
    paths: list[str] = []
    """What is indexed; empty: all sources."""
    retry_failed: bool = False
    """Whether files that failed are read again."""


class KnownLanguages(BaseModel):
    """Languages of queries."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    known: list[str]
    """ISO 639 codes, sorted."""
    are_all: bool
    """Whether the encoder knows no others."""


class LibraryRequest(BaseModel):
    """How to create the library of the service."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    language: str | None = None
    """Code of the language of the queries, by which the encoder is chosen."""


class ListedItem(BaseModel):
    """An item. Sizes are in pixels, upright."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    item_id: int
    path: str
    """Bytes that are not valid UTF-8 are escaped."""
    kind: MediaKind
    modality: Modality
    width: int | None
    height: int | None
    page: int | None
    """Page of a document, from 1."""
    time_s: float | None
    """Time of a video frame in seconds."""
    start_s: float | None
    """When it begins, in seconds of its file."""
    end_s: float | None
    """When it ends, in seconds of its file."""
    text: str | None
    """The chunk of text."""
    found_by: Task | None
    """Of a text that a model found: in a picture (ocr), in speech, or of what a picture shows (caption); null: it stands in the file."""
    columns: dict[str, Any] | None
    """Other values of the table row."""
    taken_local: str | None
    """Date and time that the camera's clock showed, without a time zone."""
    taken_from: TakenFrom | None
    """metadata: of the file; mtime: its modification time, for want of a date."""
    bytes: int
    """Size of the file."""
    thumbnail: str | None
    """URL of the thumbnail, cacheable for ever; null: none."""


class MapPoint(BaseModel):
    """Files that were taken near each other, in a cell of the box."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    latitude: float
    """Mean of the files, in degrees."""
    longitude: float
    """Mean of the files, in degrees."""
    count: int
    """Number of files."""
    item_id: int
    """An item of one of them."""


class MapPoints(BaseModel):
    """Where the files of a library were taken; those of most files first."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    total: int
    """Number of files inside the box."""
    points: list[MapPoint]


class Neighbours(BaseModel):
    """Items of the same file and modality, in the order in which they lie in it."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    before: list[ListedItem]
    after: list[ListedItem]


class NestedValue(BaseModel):
    """A value, the number of items that have it, and where it is."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    value: str | int | float | bool
    count: int
    within: list[str] = []
    """Of a place: the larger ones it is in, the country first."""
    has_more: bool = False
    """Whether smaller values are `below` it."""


class NewCollection(BaseModel):
    """A collection to create, and its first items."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    name: str
    """One line; compared in any case."""
    items: list[int] = []
    """Ids of items."""


class NewName(BaseModel):
    """Another name of a collection."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    name: str
    """One line; compared in any case."""


class NewSearch(BaseModel):
    """A search to save: the address of the page, or the body of a search."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    name: str
    """One line; compared in any case."""
    address: str | None = None
    """What follows the `?` in the page's address, such as `q=dog&kind=video`."""
    request: SearchRequest | None = None


class NoteList(BaseModel):
    """The files that failed, and those that were read in part, by path."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    failures: list[Failure]
    notes: list[Notes]
    files_failed: int
    """All failed files, also those not listed."""
    files_noted: int
    """All files with notes, also those not listed."""
    passed_over: PassedOver
    reasons: dict[str, int] = {}
    """Number of failed files by reason, most first; at most 100 reasons."""


class Notes(BaseModel):
    """A file that is indexed, and what could not be read of it."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    path: str
    """Bytes that are not valid UTF-8 are escaped."""
    notes: list[str]


class Part(BaseModel):
    """A query part: a text, an image, a sound or an item, with a signed weight."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    text: str | None = None
    """Text to search for."""
    image: str | None = None
    """An image file, in base64."""
    audio: str | None = None
    """A sound file, in base64."""
    item: int | None = None
    """The id of an item."""
    weight: float = 1.0
    """Below 0: hits should be unlike it. Not 0."""


class PassedOver(BaseModel):
    """What the last walks of the sources passed over."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    endings: dict[str, int]
    """Number of files of other kinds, by ending."""
    system_folders: dict[str, int]
    """Number of folders of NAS boxes, systems and programs, by name."""


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    title: str
    status: int
    detail: str
    type: str = "about:blank"


class Range(BaseModel):
    """Between two numbers, inclusive."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    min: float | None = None
    max: float | None = None


class Removal(BaseModel):
    """An item whose file is hidden from every search, with all its other items."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    item_id: int
    path: str
    file_deleted: bool
    """Whether the file was deleted: only uploaded files are."""
    comes_back: bool
    """The file is still in a source: the next indexing finds it again."""


class SavedSearchList(BaseModel):
    """All saved searches, by name."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    searches: list[SavedSearch]


class SavedSearch(BaseModel):
    """A search with a name."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    id: int
    name: str
    created_at: datetime
    address: str | None
    request: SearchRequest | None


class SearchRequest(BaseModel):
    """A query as JSON."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    text: str | None = None
    """Text to search for: a part of weight 1."""
    image: str | None = None
    """An image file, in base64: a part of weight 1."""
    audio: str | None = None
    """A sound file, in base64: a part of weight 1. The first 60 seconds are searched for."""
    item: int | None = None
    """The id of an item: as a part."""
    parts: list[Part] = []
    """Parts, summed by weight."""
    k: int = 10
    """Maximum number of hits."""
    cursor: str | None = None
    """`next_cursor` of an earlier answer to the same query."""
    modality: Modality | Literal["any"] = "image"
    """image: images, frames and pages; text: chunks of text; audio: windows of sound; any: all, joined by rank fusion, where the text of a page finds the page."""
    spaces: list[str] = []
    """Ids of the vector spaces to search, of those that the service was started with; several are joined by rank fusion. Default: the first of them, and for what its encoder does not take the first other one that does."""
    where: Filter | None = None
    """Filter of the hits."""
    mode: Mode = "auto"
    """vector: by embeddings; text: by words; hybrid: both; auto: hybrid if some file has a telling word of the query, else vector."""
    min_relevance: float | Literal["auto"] | None = None
    """Minimum relevance of a hit; auto: found by query, by the highest expected F1; null: 0, or auto when sorted by date. Hits that telling words found stay."""
    group_by_file: bool = False
    """Collapse by file: the best frame, page or chunk of each file."""
    diversity: float = 0.0
    """Diversify: difference from earlier hits."""
    parse: bool = True
    """Turn words of the texts that say when, where or with which camera into filters; false: all words are searched for as they are."""
    literal: list[str] = []
    """Words that are not to become filters, as `understood` has them."""
    rerank: Literal["auto", "none"] = "auto"
    """auto: with the reranker of the service."""
    rerank_depth: int | None = None
    """Number of candidates to rerank; null: the reranker's default."""
    rerank_budget_ms: float = 2000.0
    """Time limit of reranking, in ms."""
    sort: Sort = "relevance"
    """relevance: best first; date: newest first, of the hits above the minimum relevance; date-asc: oldest first; name: by path."""


class Segment(BaseModel):
    """A piece of found text and where it is."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    text: str
    confidence: float | None
    """Of the model, 0 to 1."""
    box: list[list[float]] | None
    """Its four corners (x, y), clockwise from the upper left of the text, as fractions of the upright picture's width and height; null: of no place."""
    start_s: float | None
    """When it begins to be said, in seconds."""
    end_s: float | None
    """When it has been said, in seconds."""


class Answer(BaseModel):
    """Hits in their order, with the wall time of each stage in milliseconds."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    query: str | None
    """Text of the query."""
    mode: Mode
    """How the hits were found; never auto."""
    timings_ms: dict[str, float]
    """Wall time of each stage."""
    hits: list[Hit]
    warnings: list[str] = []
    technical: list[str] = []
    """Those of the warnings that only tell how the search ran, such as that the time for reranking was up."""
    reranker: str | None = None
    """Name of the reranker; `/v1/explain` can explain hits of `fusion` and `late-interaction`."""
    reranked: int = 0
    """Number of candidates that it scored; they rank before all others."""
    next_cursor: str | None = None
    """Repeat the query with this `cursor` for the next hits."""
    understood: list[Understood] = []
    """Words that became filters; the others were searched for."""
    expected: float | None = None
    """Expected number of right items in the library, by their relevances."""
    left_out: int = 0
    """About how many items `min_relevance` left out of the answer."""
    unknown_language: str | None = None
    """Language or script of the query, if the encoder does not know it."""


class Hit(BaseModel):
    """A hit in an HTTP answer."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    rank: int
    item_id: int
    path: str
    """Bytes that are not valid UTF-8 are escaped."""
    kind: MediaKind
    modality: Modality
    similarity: float
    """Cosine with the query, -1 to 1."""
    page: int | None = None
    """Of a document, from 1."""
    time_s: float | None = None
    """Of a video's frame, in seconds."""
    start_s: float | None = None
    """When it begins, in seconds."""
    end_s: float | None = None
    """When it ends, in seconds."""
    text: str | None = None
    """Text of a chunk; of a page, the chunk that was found."""
    found_by: Task | None = None
    """Of a text that a model found: in a picture (ocr), in speech, or of what a picture shows (caption); null: it stands in the file."""
    columns: dict[str, Any] | None = None
    """Other values of a table's row."""
    width: int | None = None
    """In pixels, upright."""
    height: int | None = None
    """In pixels, upright."""
    taken_local: str | None = None
    """Date and time that the camera's clock showed, without a time zone."""
    taken_from: TakenFrom | None = None
    """metadata: of the file; mtime: its modification time, for want of a date."""
    match: float | None = None
    """The reranker's logit, 0 at even odds."""
    relevance: float | None = None
    """Calibrated, 0 to 1."""
    words: float | None = None
    """Lexical score: BM25, or inverse document frequency."""
    group: list[int] = []
    """Ids of the other items of the same file."""
    thumbnail: str | None = None
    """Address of its thumbnail, immutable; null: no picture."""


class Space(BaseModel):
    """A vector space of the library."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    id: str
    encoder: str
    dimension: int
    is_default: bool
    is_searched: bool
    """Whether a search of this service can name it."""
    images: int
    texts: int
    files_behind: int
    """Indexed files that were not embedded in it as they are now."""
    sounds: int = 0


class Stats(BaseModel):
    """The library, its indices, and the permissions of the caller."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    version: str
    images: int
    """Searchable images, frames and pages."""
    texts: int
    """Searchable chunks of text."""
    files_indexed: int
    files_failed: int
    files_removed: int
    files_dated_by_mtime: int
    """Images and videos whose only date is that of their modification."""
    passed_over: PassedOver
    sources: list[str]
    missing_sources: list[str]
    """Sources that are not there, or are empty folders."""
    kinds: dict[str, int]
    """Searchable files by kind."""
    taken_between: tuple[int, int] | None
    """Unix times when the first and the last file was taken."""
    cameras: list[str]
    """Camera names, for filters."""
    columns: dict[str, list[str | int | float | bool]]
    """Table columns with some of their values, for filters."""
    space: str
    spaces: list[str]
    """Ids of all spaces of the library."""
    searched_spaces: list[str]
    """Ids of those that a search can name, the default one first."""
    encoder: str
    dimension: int
    reranker: str | None
    """Name of the reranker; null: none."""
    default_min_relevance: float | Literal["auto"]
    """Minimum relevance of the page for hits of a text; auto: by query."""
    indices: list[IndexStats]
    vector_cache: CacheStats
    uploads: bool
    """Whether `POST /v1/items` accepts files."""
    scopes: list[str]
    """Scopes of the API key of this request."""
    jobs_waiting: int
    """Number of unfinished jobs, with the running one."""
    sounds: int = 0
    """Searchable windows of sound."""
    files_noted: int = 0
    """Indexed files of which something could not be read."""
    items_hidden: int = 0
    """Of the images and texts, those that are hidden."""
    languages: KnownLanguages | None = None
    """Languages that the encoder knows; null: nothing is known of them."""
    texts_by: dict[str, str] = {}
    """Names of the models that look for texts in what is indexed, by task."""
    can_find_text_in_pictures: bool = False
    """Whether `ocr` of `POST /v1/index` can be true here."""
    can_describe_images: bool = False
    """Whether the service has a model for `POST /v1/describe`."""
    max_upload_bytes: int = 0
    """Maximum size of a request, and so of an uploaded file."""
    index_below: list[str] = []
    """Folders below which new sources may be added, for keys that write."""
    first_command: str = ""
    """What adds a folder to this library in a terminal."""
    warnings: list[str] = []
    """Damage of the library as a whole, and what to do."""


class StorageBytes(BaseModel):
    """Bytes on disk, by part of the library."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    catalog: int
    embeddings: int
    """Vectors of all spaces, with their checksums."""
    indices: int
    thumbnails: int
    """They can be made again."""
    token_cache: int
    """Of rerankers; it can be made again."""
    other: int
    total: int


class Storage(BaseModel):
    """What the library takes on disk, its spaces, and what is wrong with it as a whole."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    library: str
    """Directory of the library."""
    bytes: StorageBytes
    token_cache_limit: int
    """Maximum bytes of the token cache."""
    spaces: list[Space]
    """The default one first."""
    warnings: list[str]
    """Damage of the library as a whole, and what to do."""


class TaskResult(BaseModel):
    """What a model found in a `texts` job; in pictures, for speech in files."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    task: Task
    looked_at: int
    with_text: int
    failed: int


class TimeRange(BaseModel):
    """At or after `since` and before `before`.

    A time without a time zone is what the camera's clock showed; one with a zone is an instant. A
    day, month or year alone begins at midnight by that clock. recorded: Only dates that the file
    holds itself, not its modification time."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    since: datetime | None = None
    before: datetime | None = None
    recorded: bool = False


class Understood(BaseModel):
    """Words of the query that became a filter."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    words: str
    """As they were written."""
    kind: PartKind
    label: str
    """What they mean, for people."""
    where: Filter
    """The filter, as in a request."""


class UploadedFile(BaseModel):
    """An uploaded file and its items."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    path: str
    """Path where it is stored."""
    item_ids: list[int]
    """Its image, frames, pages or chunks."""
    failure: str | None = None
    """Reason why it could not be indexed; it was deleted again."""


class Word(BaseModel):
    """A word of the text, `text[start:end]` in Unicode code points."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    word: str
    start: int
    end: int
    contribution: float
    """How much the match falls without the word."""
    heat: list[list[float]]
    """Attention over the view: rows from top to bottom, not negative, sum 1. Four significant digits."""
