import csv

import pytest

from benchmarks.datasets import load_dataset
from retrieval.errors import NotFoundError, UsageError


@pytest.fixture
def images(add_images):
    add_images("a.jpg", "my cat.jpg")


def load(tmp_path, content, options="", name="table.csv", **arguments):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_dataset(f"csv:{tmp_path / name}{options}", **arguments)


@pytest.mark.usefixtures("images")
class TestCsv:
    def test_columns_by_default(self, tmp_path):
        dataset = load(
            tmp_path,
            '\ufeffimage,text\r\na.jpg,"a dog,\r\na hound"\r\n\r\nmy cat.jpg,a cat\r\na.jpg,x\r\n',
        )
        assert dataset.texts == {
            "a.jpg#0": "a dog,\r\na hound",
            "my%20cat.jpg#0": "a cat",
            "a.jpg#1": "x",
        }
        assert dataset.images["a.jpg"] == tmp_path / "a.jpg"
        assert (dataset.name, dataset.split, dataset.language) == ("table", None, None)
        assert not dataset.problems

    def test_columns_by_name(self, tmp_path):
        dataset = load(
            tmp_path,
            "file;title;part;kind\na.jpg;ein Hund;eins;tier\nmy cat.jpg;eine Katze;eins;tier\n",
            "?image=file&text=title&splits=part&classes=kind&delimiter=;",
        )
        assert list(dataset.texts.values()) == ["ein Hund", "eine Katze"]
        assert dataset.split == "eins"
        assert dataset.qrels("i2i") == {"a.jpg": {"my%20cat.jpg": 1}, "my%20cat.jpg": {"a.jpg": 1}}

    def test_tabs(self, tmp_path):
        for name, options in (("table.tsv", ""), ("table.csv", "?delimiter=tab")):
            dataset = load(tmp_path, "image\tcaption\na.jpg\ta dog\n", options, name)
            assert dataset.texts == {"a.jpg#0": "a dog"}

    def test_a_column_called_split_is_heeded(self, tmp_path):
        content = "image,text,split\na.jpg,a dog,test\nmy cat.jpg,a cat,train\n"
        assert list(load(tmp_path, content).images) == ["a.jpg"]
        assert list(load(tmp_path, content, split="train").images) == ["my%20cat.jpg"]

    def test_texts_with_ids_may_describe_several_images(self, tmp_path):
        dataset = load(
            tmp_path,
            "image,text,id\na.jpg,a pet,7\nmy cat.jpg,a pet,7\na.jpg,a dog,8\n",
            "?text_ids=id",
        )
        assert dataset.texts == {"7": "a pet", "8": "a dog"}
        assert dataset.qrels("t2i")["7"] == {"a.jpg": 1, "my%20cat.jpg": 1}

    def test_every_problem_is_reported(self, tmp_path):
        dataset = load(
            tmp_path,
            "image,text,id,kind\na.jpg,a dog,1,x\na.jpg,a dog,1,x\na.jpg,a cat,1,y\na.jpg,,2,x\n"
            ",words,3,x\na.jpg,words,,x\nmy cat.jpg,,4,x\ngone.jpg,words,5,x\n",
            "?text_ids=id&classes=kind",
        )
        assert [(str(problem.kind), problem.where) for problem in dataset.problems] == [
            ("duplicate id", "table.csv:3"),
            ("duplicate id", "table.csv:4"),
            ("duplicate id", "table.csv:4"),
            ("empty text", "table.csv:5"),
            ("missing image", "table.csv:6"),
            ("unknown id", "table.csv:7"),
            ("empty text", "table.csv:8"),
            ("image without text", "my%20cat.jpg"),
            ("missing image", "gone.jpg"),
        ]
        assert dataset.texts == {"1": "a dog"}

    def test_large_fields_leave_the_limit_of_others_alone(self, tmp_path):
        limit = csv.field_size_limit()
        dataset = load(tmp_path, f"image,text\na.jpg,{'a' * 300_000}\n")
        assert len(dataset.texts["a.jpg#0"]) == 300_000
        assert csv.field_size_limit() == limit

    def test_other_encodings(self, tmp_path):
        content = "image,text\na.jpg,一只狗\n".encode("gb18030")
        assert load(tmp_path, content, "?encoding=gb18030").texts == {"a.jpg#0": "一只狗"}
        with pytest.raises(UsageError, match=r"table\.csv:2: not utf-8"):
            load(tmp_path, content)

    @pytest.mark.parametrize(
        ("content", "options", "reason"),
        [
            ("image,text\na.jpg\n", "", r"table\.csv:2: 1 fields"),
            ("image,text\na.jpg,a dog, big\n", "", r"table\.csv:2: 3 fields"),
            ('image,text\na.jpg,"a dog\nmy cat.jpg,x\n', "", r"table\.csv:3: not CSV"),
            ("image,image\na.jpg,b\n", "", "same name"),
            ("name,words\na.jpg,b\n", "", r"no column 'image'.*name, words.*\?image=COLUMN"),
            ("image,text\na.jpg,b\n", "?text=title", "no column 'title'"),
            ("image,text\na.jpg,b\n", "?delimiter=ab", "delimiter 'ab'"),
            ("image,text\n", "", "no rows"),
            ("", "", "no rows"),
        ],
    )
    def test_malformed_tables_are_refused(self, tmp_path, content, options, reason):
        with pytest.raises(UsageError, match=reason):
            load(tmp_path, content, options)

    def test_languages_are_refused(self, tmp_path):
        with pytest.raises(UsageError, match="does not name languages"):
            load(tmp_path, "image,text\na.jpg,b\n", language="en")


def test_a_folder_is_not_a_table(tmp_path):
    with pytest.raises(NotFoundError, match="is a folder, not a file"):
        load_dataset(f"csv:{tmp_path}")


def test_missing_images_are_an_error_only_together(tmp_path):
    with pytest.raises(NotFoundError, match=r"no a\.jpg in"):
        load(tmp_path, "image,text\na.jpg,a dog\n")
