"""Encoders and the engine as models of the package `mteb`: MTEB's tasks of texts, MIEB's of images.

    import mteb
    from benchmarks.quality.mteb_models import MtebEncoder, MtebEngine

    tasks = mteb.get_tasks(["Flickr30kT2IRetrieval"])
    mteb.evaluate(MtebEncoder("starter"), tasks)
    mteb.evaluate(MtebEngine("starter", rerank="auto"), tasks)

`mteb` (Muennighoff et al. 2023, Xiao et al. 2025) gets the tasks' data from the model hub and
writes results to its own cache. It comes with the extra `mteb`, and is imported here alone.
"""

import logging
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.results import published_name
from indexer.pipeline import index_sources
from retrieval.encoders.base import Encoder, Space, Vectors, cannot_encode, sound_input
from retrieval.encoders.registry import load_encoder
from retrieval.errors import MMSearchError, UsageError, import_errors_as
from retrieval.indices.maintenance import build_index
from retrieval.library import create_library
from retrieval.media import Modality
from retrieval.media.audio import cut_windows, resample
from retrieval.media.color import to_rgb
from retrieval.rerankers.registry import load_reranker
from retrieval.search.encode import join_parts
from retrieval.search.engine import Engine
from retrieval.search.query import (
    MAX_K,
    MAX_TEXT_LENGTH,
    ImagePart,
    Mode,
    Part,
    Query,
    Reranking,
    TextPart,
)

_NEEDS = UsageError("The models for MTEB need the package mteb: pip install 'mmsearch[mteb]'")
_QUERIES_AT_ONCE = 32


class MtebEncoder:
    """An encoder behind mteb's `EncoderProtocol`, for tasks of every kind.

    Of inputs with several modalities, such as a picture with a text, the vector is the sum of their
    unit vectors scaled to unit length, as in a query of several parts. Sound is cut into windows as
    files of sound are, whose mean counts.

    Args:
        name: of an encoder, as `mmsearch index --encoder` takes it.
        device: `cpu`, `cuda` or `auto`.

    Raises as `load_encoder`; UsageError where `mteb` is not installed.
    """

    def __init__(self, name: str, *, device: str = "auto") -> None:
        self._encoder = load_encoder(name, device)
        self.mteb_model_meta = _model_meta(self._encoder)

    def encode(self, inputs: Iterable[Mapping[str, Any]], **_: Any) -> Vectors:
        """Encode batches of texts, images and sounds, (n, d) float32 of unit length.

        inputs: mteb's data loader; each batch has lists by modality. What the task is, which mteb
        also says, changes nothing. Raises UsageError for a modality that the encoder does not take.
        """
        vectors = [np.empty((0, self._encoder.space.dimension), np.float32)]
        vectors += [self._encode_batch(batch) for batch in inputs]
        return np.concatenate(vectors)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Compute cosines of all pairs, an (n, m) tensor."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Compute cosines row by row, an (n,) tensor."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)

    def _encode_batch(self, batch: Mapping[str, Any]) -> Vectors:
        encoder = self._encoder
        if "video" in batch:
            raise UsageError(
                "mteb gives videos as tensors, which encoders of pictures do not take. Choose "
                "tasks of texts, images and sound."
            )
        parts: list[Vectors] = []
        if "text" in batch:
            parts.append(encoder.encode(Modality.TEXT, list(batch["text"])))
        if "image" in batch:
            pixels = [encoder.preprocess(to_rgb(image)) for image in batch["image"]]
            parts.append(encoder.encode(Modality.IMAGE, np.stack(pixels)))
        if "audio" in batch:
            parts.append(np.stack([self._encode_sound(sound) for sound in batch["audio"]]))
        if not parts:
            raise UsageError(f"mteb gives no text, image or audio, but {', '.join(batch)}.")
        if len(parts) == 1:
            return parts[0]
        return np.stack([join_parts([1.0] * len(row), row) for row in zip(*parts, strict=True)])

    def _encode_sound(self, sound: Mapping[str, Any]) -> NDArray[np.float32]:
        heard = sound_input(self._encoder)
        if heard is None:
            raise cannot_encode(self._encoder, Modality.AUDIO)
        samples = np.asarray(sound["array"], np.float32)
        samples = samples.mean(axis=0) if samples.ndim > 1 else samples
        samples = resample(samples, int(sound["sampling_rate"]), heard.rate)
        windows = cut_windows(samples, heard.length, heard.rate) or [np.zeros(1, np.float32)]
        vectors = self._encoder.encode(Modality.AUDIO, windows)
        return join_parts([1.0] * len(vectors), list(vectors))


class MtebEngine:
    """The whole engine behind mteb's `SearchProtocol`, for its retrieval tasks.

    The documents of a task are written as files (PNG, which loses nothing, or text) and indexed
    into a library in a temporary directory; queries are searched for in it as users do: candidates
    from the index of a library of that size, exact refinement, reranking without a time limit.
    Long texts are found by their best chunk; texts that are found for an image are not reranked.
    The scores given to mteb are similarities, lowered where needed so that they descend in the
    order of the hits.

    Args:
        name: of an encoder, as `mmsearch index --encoder` takes it.
        device: `cpu`, `cuda` or `auto`.
        rerank: name of a reranker, as `mmsearch search --rerank` takes it.
        rerank_depth: number of candidates to rerank; None: the reranker's.
        mode: `vector`; `auto` and `hybrid` also search by words, where queries are texts.
        workers: number of decoder processes; None: by the number of cores.

    Raises as `load_encoder` and `load_reranker`; UsageError where `mteb` is not installed.
    """

    def __init__(
        self,
        name: str,
        *,
        device: str = "auto",
        rerank: str = "none",
        rerank_depth: int | None = None,
        mode: Mode = Mode.VECTOR,
        workers: int | None = None,
    ) -> None:
        encoder = load_encoder(name, device)
        load_reranker(rerank, encoder, device)  # refused before anything is indexed
        self._space: Space = encoder.space
        self._device = device
        self._reranking = Reranking(rerank, rerank_depth, budget_ms=None)
        self._mode = mode
        self._workers = workers
        self._engine: Engine | None = None
        self._modality = Modality.TEXT
        self._ids: list[str] = []
        self._remove: Callable[[], object] = lambda: None
        settings = [mode, rerank, *([str(rerank_depth)] if rerank_depth else [])]
        self.mteb_model_meta = _model_meta(encoder, "engine", *settings)

    def index(self, corpus: Any, *, task_metadata: Any, num_proc: int | None, **_: Any) -> None:
        """Index the documents of a task in place of those before.

        Raises UsageError for documents that are not all texts or all images.
        """
        from mteb.types import PromptType

        modalities = task_metadata.get_modalities(PromptType.document)
        if list(modalities) not in (["text"], ["image"]):
            raise UsageError(
                f"The documents of {task_metadata.name} are {' with '.join(modalities)}: the "
                "engine finds texts or images. MtebEncoder takes both together."
            )
        [name] = modalities
        self._modality = Modality(name)
        self.close()
        folder = Path(tempfile.mkdtemp(prefix="mmsearch-mteb-"))
        self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        files = folder / "documents"
        files.mkdir()
        self._ids = list(corpus["id"])
        documents = _rows(corpus, PromptType.document, task_metadata, num_proc)
        for number, document in enumerate(documents):
            if self._modality is Modality.IMAGE:
                to_rgb(document["image"]).save(files / f"{number}.png", compress_level=1)
            else:
                text = document["text"].encode("utf-8", errors="replace")
                (files / f"{number}.txt").write_bytes(text)
        library = create_library(folder / "library", self._space)
        engine = Engine(library, device=self._device)
        summary = index_sources(library, engine.encoder, [files], workers=self._workers)
        if summary.failed:
            logging.getLogger(__name__).warning(
                "%d of %d documents are empty or cannot be read: no query finds them.",
                summary.failed,
                summary.found,
            )
        build_index(
            library, self._modality, lambda: engine.encoder, self._space, device=self._device
        )
        self._engine = engine

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        top_k: int,
        num_proc: int | None,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **_: Any,
    ) -> dict[str, dict[str, float]]:
        """Search for each query: {query id: {document id: score}}, a blank one finds nothing.

        Raises UsageError for tasks of reranking, whose candidates are given (`top_ranked`), and for
        queries of sound or video.
        """
        from mteb.types import PromptType

        if self._engine is None:
            raise UsageError("The engine has no documents to search: call index first.")
        if top_ranked is not None:
            raise UsageError(
                f"{task_metadata.name} gives the candidates of each query; the engine finds its "
                "own. Use MtebEncoder for tasks of reranking."
            )
        if not set(task_metadata.get_modalities(PromptType.query)) <= {"text", "image"}:
            raise UsageError(f"The queries of {task_metadata.name} are not texts and images.")
        found: dict[str, dict[str, float]] = {query: {} for query in queries["id"]}
        rows = zip(found, _rows(queries, PromptType.query, task_metadata, num_proc), strict=True)
        while block := list(islice(rows, _QUERIES_AT_ONCE)):  # images of all would fill the memory
            asked = {query: parts for query, row in block if (parts := _parts(row))}
            requests = [(self._query(parts, top_k), self._reranking) for parts in asked.values()]
            for query, answer in zip(asked, self._engine.search_many(requests), strict=True):
                if isinstance(answer, MMSearchError):
                    raise answer
                documents = [self._ids[int(Path(hit.path).stem)] for hit in answer]
                scores = _descending([hit.similarity for hit in answer])
                found[query] = dict(zip(documents, scores, strict=True))
        return found

    def close(self) -> None:
        """Remove the library."""
        if self._engine is not None:
            self._engine.library.close()
        self._engine = None
        self._remove()

    def _query(self, parts: tuple[Part, ...], top_k: int) -> Query:
        is_text = self._modality is Modality.TEXT
        has_text = any(isinstance(part, TextPart) for part in parts)
        return Query(
            parts,
            k=min(top_k, MAX_K),
            modality=self._modality,
            mode=self._mode if has_text else Mode.VECTOR,
            group_by_file=is_text,
        )


def _descending(scores: Sequence[float]) -> list[float]:
    """Lower each score that is not below the one before it by as little as possible.

    trec_eval, which mteb calls, compares them in single precision and orders equal ones by id.
    """
    lowered = np.array(scores, np.float32)
    for place in range(1, len(lowered)):
        most = np.nextafter(lowered[place - 1], np.float32(-np.inf))
        lowered[place] = min(lowered[place], most)
    values: list[float] = lowered.tolist()
    return values


def _rows(data: Any, prompt_type: Any, task_metadata: Any, num_proc: int | None) -> Iterable[Any]:
    """Yield the rows of a corpus or of queries as mteb gives them to models, one by one."""
    from mteb._create_dataloaders import create_dataloader

    batches = create_dataloader(
        data, task_metadata=task_metadata, prompt_type=prompt_type, num_proc=num_proc
    )
    for batch in batches:
        shown = {name: batch[name] for name in ("text", "image") if name in batch}
        for values in zip(*shown.values(), strict=True):
            yield dict(zip(shown, values, strict=True))


def _parts(row: Mapping[str, Any]) -> tuple[Part, ...]:
    """Make the parts of a query, none of a blank text; what encoders do not read is left out."""
    text = row.get("text", "")[:MAX_TEXT_LENGTH]
    parts: list[Part] = [TextPart(text)] if text.strip() else []
    if "image" in row:
        parts.append(ImagePart(to_rgb(row["image"])))
    return tuple(parts)


def _model_meta(encoder: Encoder, *settings: str) -> Any:
    """Describe a model for mteb, which files results by name and revision: the space's identity."""
    with import_errors_as(_NEEDS):
        from mteb.models.model_meta import ModelMeta
    space = encoder.space
    names = map(published_name, (space.encoder, *settings))
    return ModelMeta.model_validate(
        {
            "loader": None,
            "name": "mmsearch/" + re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(names)),
            "revision": space.id.rpartition("-")[2],
            "release_date": None,
            "languages": None,
            "n_parameters": None,
            "memory_usage_mb": None,
            "max_tokens": encoder.context_length,
            "embed_dim": space.dimension,
            "license": None,
            "open_weights": None,
            "public_training_code": None,
            "public_training_data": None,
            "framework": ["PyTorch"],
            "similarity_fn_name": "cosine",
            "use_instructions": False,
            "training_datasets": None,
            "modalities": sorted(str(modality) for modality in encoder.modalities),
        }
    )
