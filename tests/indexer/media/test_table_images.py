import unicodedata

import pytest

from indexer.media.table_images import ImageFiles, ObjectNames, image_files_of


def made(tmp_path, *names):
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return ImageFiles(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("images/a.jpg", "images\\a.jpg"),
        ("images/a.jpg", ".\\images\\a.jpg"),
        ("images/a.jpg", "./images//a.jpg"),
        ("images/a.jpg", "IMAGES/A.JPG"),
        ("images/a.jpg", "a.jpg"),
        ("images/a.jpg", "data/images/a.jpg"),
        ("images/a.jpg", "/home/alice/data/images/a.jpg"),
        ("images/a.jpg", "C:\\data\\images\\a.jpg"),
        ("a b.jpg", "a%20b.jpg"),
        ("100%.jpg", "100%.jpg"),
        (unicodedata.normalize("NFD", "é.jpg"), unicodedata.normalize("NFC", "é.jpg")),
        (unicodedata.normalize("NFC", "é/ä.jpg"), unicodedata.normalize("NFD", "É/Ä.JPG")),
    ],
)
def test_images_are_found_however_they_are_spelled(tmp_path, name, row):
    assert made(tmp_path, name).find(row) == (str(tmp_path / name), None)


def test_images_of_a_folder_beside_that_of_the_table_are_found(tmp_path):
    made(tmp_path, "images/a.jpg", "tables/x.jpg")
    found = ImageFiles(str(tmp_path / "tables")).find("images\\a.jpg")
    assert found == (str(tmp_path / "images" / "a.jpg"), None)


def test_the_exact_path_comes_first(tmp_path):
    files = made(tmp_path, "a.jpg", "A.jpg", "images/a.jpg")
    assert files.find("a.jpg") == (str(tmp_path / "a.jpg"), None)


def test_several_that_fit_are_reported_and_none_is_taken(tmp_path):
    path, problem = made(tmp_path, "x/a.jpg", "y/a.jpg").find("a.jpg")
    assert path == str(tmp_path / "a.jpg")
    assert problem == "several images fit 'a.jpg': x/a.jpg, y/a.jpg"


def test_an_image_of_another_folder_is_another_image(tmp_path):
    path, problem = made(tmp_path, "val/a.jpg").find("train/a.jpg")
    assert path == str(tmp_path / "train" / "a.jpg")
    assert problem == "its image 'train/a.jpg' was not found"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.jpg", "s3://bucket/sets/one/a.jpg"),
        ("sub\\a.jpg", "s3://bucket/sets/one/sub/a.jpg"),
        ("../two/a.jpg", "s3://bucket/sets/two/a.jpg"),
        ("../../../../a.jpg", "s3://bucket/a.jpg"),
        ("/etc/passwd", "s3://bucket/sets/one/etc/passwd"),
    ],
)
def test_a_table_on_a_server_names_what_is_in_its_bucket(name, path):
    files = image_files_of("s3://bucket/sets/one/captions.jsonl")
    assert isinstance(files, ObjectNames)
    assert files.find(name) == (path, None)


def test_a_table_in_a_shard_names_what_is_in_the_shard(tmp_path):
    shard = str(tmp_path / "0.tar")
    files = image_files_of(f"{shard}/sub/captions.jsonl")
    assert files.find("a.jpg") == (f"{shard}/sub/a.jpg", None)
    assert files.find("../../../a.jpg") == (f"{shard}/a.jpg", None)
