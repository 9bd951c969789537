import json

import pytest

from benchmarks.datasets import load_dataset
from retrieval.errors import UsageError

BARS = """image_name| comment_number| comment
a.jpg| 0| Two friends , one with a "hat" , talk .
a.jpg| 1| Two | three friends .
b.jpg| 0| A girl .
"""


@pytest.fixture
def images(add_images):
    add_images("flickr30k-images/a.jpg", "flickr30k-images/b.jpg")


def load(tmp_path, content, name="results.csv", options="", **arguments):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    return load_dataset(f"flickr30k-csv:{tmp_path / name}{options}", **arguments)


@pytest.mark.usefixtures("images")
class TestLayouts:
    def test_bars(self, tmp_path):
        dataset = load(tmp_path, BARS)
        assert dataset.texts == {
            "a.jpg#0": 'Two friends , one with a "hat" , talk .',
            "a.jpg#1": "Two | three friends .",
            "b.jpg#0": "A girl .",
        }
        assert dataset.images["b.jpg"] == tmp_path / "flickr30k-images" / "b.jpg"
        assert (dataset.split, dataset.language, dataset.problems) == (None, "en", ())
        assert load_dataset(f"flickr30k-csv:{tmp_path}").texts == dataset.texts
        with pytest.raises(UsageError, match="has no splits"):
            load(tmp_path, BARS, split="test")

    def test_the_line_without_its_second_bar_is_repaired(self, tmp_path):
        dataset = load(tmp_path, BARS + "b.jpg| 4   A dog runs across the grass .\n")
        assert dataset.texts["b.jpg#4"] == "A dog runs across the grass ."
        assert [str(problem) for problem in dataset.problems] == [
            "results.csv:5: repaired line: the second '|' is missing"
        ]

    def test_commas_with_and_without_quotes(self, tmp_path):
        dataset = load(
            tmp_path,
            'image,caption\r\na.jpg,"A dog, a ""big"" one ."\r\na.jpg,A dog, a hound .\r\n',
            "captions.txt",
        )
        assert list(dataset.texts.values()) == ['A dog, a "big" one .', "A dog, a hound ."]

    def test_commas_with_numbers(self, tmp_path):
        dataset = load(
            tmp_path,
            "image_name,comment_number,comment\na.jpg,3, A dog, a hound .\nb.jpg,0, A cat .\n",
            "captions.txt",
        )
        assert dataset.texts == {"a.jpg#3": "A dog, a hound .", "b.jpg#0": "A cat ."}

    def test_tokens(self, tmp_path):
        dataset = load(tmp_path, "a.jpg#0\tA dog .\na.jpg#1\tA hound .\n", "r.token")
        assert dataset.texts == {"a.jpg#0": "A dog .", "a.jpg#1": "A hound ."}

    def test_lists_with_splits(self, tmp_path):
        rows = [
            "raw,sentids,split,filename,img_id",
            '"[""A dog, \\""big\\"" ."", ""A hound .""]","[0, 1]",test,a.jpg,0',
            '"[""A cat .""]",[2],train,b.jpg,1',
        ]
        dataset = load(tmp_path, "\n".join(rows), "flickr_annotations_30k.csv")
        assert dataset.split == "test"
        assert dataset.texts == {"a.jpg#0": 'A dog, "big" .', "a.jpg#1": "A hound ."}
        train = load_dataset(f"flickr30k-csv:{tmp_path}", "train", "en")
        assert list(train.images) == ["b.jpg"]
        with pytest.raises(UsageError, match=r"no split 'val'.*test \(1\), train \(1\)"):
            load_dataset(f"flickr30k-csv:{tmp_path}", "val")

    def test_fields_of_any_size(self, tmp_path):
        captions = json.dumps(["long " * 50_000]).replace('"', '""')
        dataset = load(tmp_path, f'raw,split,filename\n"{captions}",test,a.jpg\n')
        assert len(dataset.texts["a.jpg#0"]) == 249_999

    def test_every_problem_is_reported(self, tmp_path):
        dataset = load(
            tmp_path, BARS + "b.jpg| 0| Another girl .\nb.jpg| 1|\nc.jpg| 0| Nothing .\n"
        )
        assert [str(problem) for problem in dataset.problems[:2]] == [
            "results.csv:5: duplicate id: b.jpg#0 again, with another text: left out",
            "results.csv:6: empty text: b.jpg#1: left out",
        ]
        assert dataset.problem_counts["missing image"] == 1

    def test_other_encodings(self, tmp_path):
        text = BARS.replace("girl", "café girl\u2028")
        for data, options in [
            (text.encode("utf-16"), ""),
            (b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(), ""),
            (text.encode("utf-8"), "?encoding=utf-8"),
        ]:
            dataset = load(tmp_path, data, options=options)
            assert dataset.texts["b.jpg#0"] == "A café girl\u2028 ."
        latin = BARS.replace("girl", "café girl").encode("cp1252")
        assert (
            load(tmp_path, latin, options="?encoding=cp1252").texts["b.jpg#0"].startswith("A café")
        )
        with pytest.raises(UsageError, match=r"results\.csv:4: not utf-8.*encoding=NAME"):
            load(tmp_path, latin)
        with pytest.raises(UsageError, match="Unknown encoding 'klingon'"):
            load(tmp_path, latin, options="?encoding=klingon")

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (BARS + "b.jpg| no bar\n", r":5: expected three fields"),
            (BARS + "b.jpg| one| A cat .\n", r":5: 'one' is not a caption's number"),
            (BARS + "| 1| A cat .\n", r":5: no image name"),
            ("image,caption\na.jpg\n", r":2: expected 2 fields"),
            ("a.jpg#0\tA dog .\na.jpg\tA dog .\n", r":2: expected 'image\.jpg#0"),
            ("raw,split,filename\n[],test\n", r":2: 2 fields"),
            ("raw,split,filename\n{,test,a.jpg\n", r":2: 'raw' is not a JSON list"),
            ('raw,split,filename\n"{}",test,a.jpg\n', r":2: 'raw' is not a JSON list"),
            ('raw,split,filename\n"[""x"",test,a.jpg\n', r":2: not CSV"),
            ("who,what\n", r":1: not a layout"),
            ("", r":1: not a layout"),
            ("image,caption\n", "holds no captions"),
        ],
    )
    def test_malformed_files_are_refused(self, tmp_path, content, reason):
        with pytest.raises(UsageError, match=reason):
            load(tmp_path, content)
