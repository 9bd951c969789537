import pytest

from indexer.enrichment.tasks import Recognizers, enrich_library, named_model
from indexer.pipeline import index_sources
from retrieval.encoders.trust import distrust, is_trusted
from retrieval.errors import MissingExtraError, UsageError
from retrieval.library import create_library, open_library
from retrieval.recognition.base import Task
from tests.block_codes import BlockEncoder, BlockReader, save

ENCODER = BlockEncoder()


@pytest.fixture
def library(tmp_path):
    for number in range(2):
        save(tmp_path / "photos" / f"{number}.png", f"number {number}")
    library = create_library(tmp_path / "library", ENCODER.space)
    index_sources(library, ENCODER, [tmp_path / "photos"], workers=1)
    return library


def loader(models):
    """Load models by name; an error in place of one is raised."""

    def load(task, name):
        if isinstance(model := models[name], Exception):
            raise model
        model.task = task
        return model

    return Recognizers(load)


@pytest.mark.slow
def test_the_models_that_a_library_remembers_look_and_others_do_not(library):
    assert enrich_library(library, [ENCODER], loader({})) == []
    library.set_enrichment({Task.OCR: "blocks", Task.CAPTION: "captions"})
    assert open_library(library.path).enrichment == {Task.OCR: "blocks", Task.CAPTION: "captions"}
    missing = MissingExtraError("Captions", "captions")
    events = []
    [ocr, caption] = enrich_library(
        library,
        [ENCODER],
        loader({"blocks": BlockReader(), "captions": missing}),
        on_progress=lambda task, event: events.append((task, event.done)),
    )
    assert (ocr.looked_at, ocr.problem) == (2, None)
    assert (caption.looked_at, caption.problem) == (0, str(missing))
    assert events[-1] == (Task.OCR, 2)
    # Another process that chooses is heard, and what was found stays.
    open_library(library.path).set_enrichment({Task.OCR: None})
    assert library.enrichment == {Task.CAPTION: "captions"}
    other = BlockEncoder("others")
    library.add_space(other.space)
    index_sources(library, other, workers=1)
    enrich_library(library, [ENCODER, other], loader({"captions": missing}))
    with library.catalog.snapshot() as snapshot:
        for space in (ENCODER.space, other.space):
            texts = [item.text for item in snapshot.items(space.id, limit=9) if item.found_by]
            assert texts == ["number 0", "number 1"]


@pytest.mark.slow
def test_no_model_is_loaded_where_there_is_nothing_to_look_at(library):
    library.set_enrichment({Task.OCR: "blocks"})
    enrich_library(library, [ENCODER], loader({"blocks": BlockReader()}))
    [summary] = enrich_library(library, [ENCODER], loader({"blocks": AssertionError()}))
    assert not summary.did_something


@pytest.mark.slow
def test_a_task_that_is_stopped_is_the_last(library):
    library.set_enrichment({Task.OCR: "blocks", Task.CAPTION: "blocks"})
    [summary] = enrich_library(
        library, [ENCODER], loader({"blocks": BlockReader()}), should_stop=lambda: True
    )
    assert summary.interrupted


def test_models_are_loaded_once_and_again_by_another_name():
    loaded = []
    recognizers = Recognizers(lambda _, name: loaded.append(name) or BlockReader())
    assert recognizers.get(Task.OCR, "a") is recognizers.get(Task.OCR, "a")
    recognizers.get(Task.OCR, "b")
    assert loaded == ["a", "b"]


def test_a_folder_that_only_a_library_names_is_not_read(tmp_path):
    recognizers = loader({str(tmp_path): BlockReader()})
    with pytest.raises(UsageError, match=r"never named.*mmsearch trust"):
        recognizers.get(Task.OCR, str(tmp_path))
    assert named_model(str(tmp_path)) == str(tmp_path)
    assert is_trusted(tmp_path)
    assert recognizers.get(Task.OCR, str(tmp_path)).looked_at == 0
    distrust(tmp_path)


def test_names_that_are_no_folders_stay_as_they_are(monkeypatch, tmp_path):
    assert named_model("Salesforce/blip") == "Salesforce/blip"
    with pytest.raises(UsageError, match="needs a name"):
        named_model(" ")
    monkeypatch.chdir(tmp_path.parent)
    assert named_model(tmp_path.name) == str(tmp_path)
    distrust(tmp_path)
