"""Whatever a library is stored in and searched by, it gives the answers of a local one.

`MMSEARCH_TEST_QUESTIONS` sets how many questions are asked of each.
"""

import os
import shutil

import pytest

from indexer.pipeline import index_sources
from retrieval.filters import Filter
from retrieval.library import create_library
from tests.congruence.questions import asked, differences, questions
from tests.congruence.twins import TWINS
from tests.rich_library import collect, rich_library, set_times, write_rich_folder

COUNT = int(os.environ.get("MMSEARCH_TEST_QUESTIONS", "40"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def module_bucket(object_store):
    with pytest.MonkeyPatch.context() as environment:
        for name, value in object_store.environment.items():
            environment.setenv(name, value)
        yield object_store.new_bucket()


@pytest.fixture(scope="module", params=TWINS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory):
    return tmp_path_factory.mktemp("sources") / "photos"


@pytest.fixture(scope="module")
def library(folder, tmp_path_factory, tiny_encoder):
    return rich_library(folder, tmp_path_factory.mktemp("library") / "library", tiny_encoder)


@pytest.fixture(scope="module")
def twin(name, library, tmp_path_factory, request):
    return TWINS[name](library, tmp_path_factory.mktemp("twin"), request)


def compare(library, other, seed: int) -> None:
    told = []
    found = 0
    for question in questions(library, seed, COUNT):
        expected = asked(library, question, library)
        found += len(expected)
        told += [
            f"{question}: {difference}"
            for difference in differences(expected, asked(other, question, library), question.k)
        ]
    assert not told, "\n".join(told[:20])
    assert found > COUNT  # the questions ask for something


def test_answers_are_those_of_the_library(library, twin):
    compare(library, twin.follow(), seed=1)


def test_answers_stay_the_same_after_additions_changes_and_deletions(
    library, twin, folder, tiny_encoder, tmp_path
):
    twin.follow()
    write_rich_folder(folder / "more", seed=7, pictures=8)
    (folder / "dogs" / "IMG_0_003.jpg").unlink()
    (folder / "table0.jsonl").rename(folder / "table1.jsonl")
    (folder / "2019").rename(folder / "2017")
    shutil.copyfile(folder / "camera" / "IMG_0_002.jpg", folder / "camera" / "IMG_0_006.jpg")
    set_times(folder)
    index_sources(library, tiny_encoder, [folder], workers=1)
    collect(library)
    reference = library
    if twin.forgets:
        reference = create_library(tmp_path / "fresh", tiny_encoder.space)
        index_sources(reference, tiny_encoder, [folder], workers=1)
        collect(reference)
    compare(reference, twin.follow(), seed=2)


def test_lists_and_counts_are_those_of_the_library(library, twin):
    other = twin.follow()
    for where in (None, Filter(kind=("image",)), Filter(hidden="any"), Filter(camera="canon")):
        counts = [one.facets(where=where) for one in (library, other)]
        assert counts[0] == counts[1]
