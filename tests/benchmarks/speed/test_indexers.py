import sys

import pytest

from benchmarks.speed.indexers import (
    Call,
    Indexer,
    IndexerFailedError,
    measure_indexers,
    mmsearch,
    rclip,
)
from retrieval.errors import UsageError

THIS_PROGRAM = [sys.executable, "-c", "from api.cli import main; main()"]


def script(name: str, program: str) -> Indexer:
    """A program that is told the photos' folder and its own."""
    return Indexer(
        name,
        lambda photos, place: Call([sys.executable, "-c", program, str(photos), str(place)]),
    )


@pytest.mark.slow
def test_this_program_is_measured_as_its_users_run_it(picture_folder, tiny_checkpoint):
    indexer = mmsearch(THIS_PROGRAM, f"local-dir:{tiny_checkpoint}")
    told = []
    [speed] = measure_indexers(picture_folder, [indexer], limit=4, on_done=told.append)
    assert told == [speed]
    assert (speed.name, speed.images) == ("mmsearch", 4)
    assert speed.images_per_second == 4 / speed.first_s
    assert min(speed.start_s, speed.second_s) > 0


def test_one_photo_then_all_of_them_twice_each_from_an_empty_place(picture_folder, tmp_path):
    log = tmp_path / "log"
    program = (
        "import sys, pathlib\n"
        "photos, place = map(pathlib.Path, sys.argv[1:])\n"
        f"with open({str(log)!r}, 'a') as log:\n"
        "    print(len(list(photos.iterdir())), len(list(place.iterdir())), file=log)\n"
        "(place / 'kept').touch()\n"
    )
    results = measure_indexers(picture_folder, [script("a", program), script("b", program)])
    assert [result.name for result in results] == ["a", "b"]
    assert log.read_text().split("\n")[:-1] == ["1 0", "6 0", "6 1"] * 2


def test_a_program_that_fails_is_told_with_what_it_printed(picture_folder):
    broken = script("broken", "import sys; sys.exit('the model is missing')")
    with pytest.raises(IndexerFailedError, match=r"(?s)broken.*the model is missing"):
        measure_indexers(picture_folder, [broken])


def test_rclip_gets_its_models_but_no_index_of_before(tmp_path):
    models, place = tmp_path / "models", tmp_path / "place"
    for folder in (models, place):
        folder.mkdir()
    (models / "visual.onnx").write_text("weights")
    (models / "db.sqlite3").touch()
    call = rclip(tmp_path / "rclip", models).call(tmp_path, place)
    data = place / "data"
    assert call.environment == {"RCLIP_DATADIR": str(data)}
    assert [entry.name for entry in data.iterdir()] == ["visual.onnx"]
    assert (data / "visual.onnx").read_text() == "weights"
    assert rclip(tmp_path / "rclip", models).call(tmp_path, place) == call


def test_a_folder_without_photos_is_refused(tmp_path):
    with pytest.raises(UsageError, match="No images found"):
        measure_indexers(tmp_path, [])
