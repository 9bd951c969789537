"""`mmsearch bench` as users call it, with a reranker of random weights."""

import json
from pathlib import Path

import pytest

from retrieval.errors import UsageError


@pytest.mark.slow
def test_a_dataset_is_measured_with_a_reranker(run, captioned, random_fusion, tmp_path):
    common = (
        "--dataset",
        captioned,
        "--cache",
        tmp_path / "cache",
        "--metrics",
        "hit_recall@3,mrr",
    )
    plain, reranked = tmp_path / "plain.json", tmp_path / "reranked.json"
    assert run("retrieval", *common, "--json", plain).exit_code == 0
    result = run("retrieval", *common, "--rerank", random_fusion, "--json", reranked)
    assert result.exit_code == 0, result.output
    assert "Text to image: the first 3; image to text: the first 3." in result.output

    before, after = (json.loads(file.read_text(encoding="utf-8")) for file in (plain, reranked))
    assert before["reranker"] == {}
    assert after["reranker"]["name"] == random_fusion
    assert after["reranker"]["match_weight"] == 1.0
    assert after["reranker"]["depth"] == 3
    assert after["setup"]["rerank"] == random_fusion
    for direction in ("t2i", "i2t"):
        assert {"tokens", "rerank"} <= set(after["directions"][direction]["milliseconds"])
        assert "rerank" not in before["directions"][direction]["milliseconds"]
        ranks = [body["directions"][direction]["judgments"]["ranks"] for body in (before, after)]
        assert ranks[0] != ranks[1]
        hits = [
            body["directions"][direction]["metrics"]["hit_recall@3"]["value"]
            for body in (before, after)
        ]
        assert hits[0] == hits[1]  # the first three are the same three

    compared = run("compare", plain, reranked, "--metrics", "mrr", "--json")
    labels = {row["label"] for row in json.loads(compared.output)["rows"]}
    assert labels == {"starter, flat, en", f"starter, flat, rerank {random_fusion}@3, en"}


@pytest.mark.parametrize("spelling", ["--json-file OUT", "--json OUT", "--json=OUT"])
def test_a_result_is_printed_or_written_as_json(run, captioned, tmp_path, spelling):
    common = ("--dataset", captioned, "--cache", tmp_path / "cache", "--metrics", "mrr")
    file = tmp_path / "result.json"
    written = run("retrieval", *common, *spelling.replace("OUT", str(file)).split())
    assert written.exit_code == 0, written.output
    assert "mrr" in written.stdout
    body = json.loads(file.read_text(encoding="utf-8"))
    for options in (("--json",), ("--json", "--seed", 0)):
        printed = json.loads(run("retrieval", *common, *options).stdout)
        assert set(printed) == set(body)
        assert printed["directions"]["t2i"]["metrics"] == body["directions"]["t2i"]["metrics"]


def test_a_result_is_written_as_a_row_of_clip_benchmark(run, captioned, tmp_path):
    common = ("--dataset", captioned, "--cache", tmp_path / "cache", "--metrics", "hit_recall@2")
    file = tmp_path / "row.json"
    result = run("retrieval", *common, "--clip-benchmark", file, "--json")
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout)["directions"]
    row = json.loads(file.read_text(encoding="utf-8"))
    assert row["model"] == "starter"
    for direction, name in (("t2i", "image"), ("i2t", "text")):
        expected = measured[direction]["metrics"]["hit_recall@2"]["value"]
        assert row["metrics"][f"{name}_retrieval_recall@2"] == expected
    refused = run("retrieval", *common, "--clip-benchmark", file, "--directions", "t2i")
    assert isinstance(refused.exception, UsageError)
    assert "add i2t to --directions" in str(refused.exception)


@pytest.mark.slow
def test_languages_are_rows_of_one_table(run, captioned, tmp_path, tiny_checkpoint):
    folder = Path(captioned.partition(":")[2])
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    more = tmp_path / "more.jsonl"
    # The same words in German, but for two photos without captions.
    lines = [json.dumps({"image": row["image"], "de": row["en"]}) for row in rows[2:]]
    more.write_text("\n".join(lines))
    file = tmp_path / "all.json"
    common = ("--dataset", captioned, "--cache", tmp_path / "cache")
    common += ("--encoder", f"local-dir:{tiny_checkpoint}")
    options = ("--captions", more, "--json-file", file, "--run", tmp_path / "run.trec")
    result = run("retrieval", *common, "--language", "all", *options, "--report", tmp_path / "r")
    assert result.exit_code == 0, result.output
    table = [line.split(" | ")[:3] for line in result.stdout.splitlines() if line.startswith("| ")]
    assert table[0] == ["| language", "direction", "queries"]
    assert table[2:] == [
        ["| en", "text to image", "12"],
        ["| en", "image to text", "6"],
        ["| de", "text to image", "8"],
        ["| de", "image to text", "4"],
    ]
    assert "In the data, de: 2 x image without text." in result.stdout
    assert {path.name for path in tmp_path.glob("run*")} == {
        f"run.{language}.{direction}.trec"
        for language in ("en", "de")
        for direction in ("t2i", "i2t")
    }
    assert (tmp_path / "r" / "de" / "report.html").exists()

    body = json.loads(file.read_text())
    assert list(body["languages"]) == ["en", "de"]
    alone = json.loads(run("retrieval", *common, "--language", "en", "--json").stdout)
    for english in (body, body["languages"]["en"]):
        assert english["dataset"] == alone["dataset"]
        assert english["directions"]["t2i"]["metrics"] == alone["directions"]["t2i"]["metrics"]
    assert "languages" not in alone
    listed = ("--language", "de,en", "--language", "de", "--captions", more)
    assert list(json.loads(run("retrieval", *common, *listed, "--json").stdout)["languages"]) == [
        "de",
        "en",
    ]

    compared = run("compare", file, file, "--metrics", "mrr", "--json")
    rows = json.loads(compared.output)["rows"]
    assert [
        (row["label"].rpartition(" [")[0][-2:], row["direction"], row["difference"]) for row in rows
    ] == [
        (language, direction, difference)
        for language in ("en", "de")
        for direction in ("t2i", "i2t")
        for difference in (None, 0)
    ]


@pytest.mark.slow
def test_failures_mended_and_new_are_shown_as_pictures(
    run, captioned, tmp_path, tiny_checkpoint, other_checkpoint
):
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for file, checkpoint in zip(files, (tiny_checkpoint, other_checkpoint), strict=True):
        result = run(
            *("retrieval", "--dataset", captioned, "--cache", tmp_path / "cache"),
            *("--encoder", f"local-dir:{checkpoint}", "--metrics", "mrr", "--json-file", file),
        )
        assert result.exit_code == 0, result.output
    bodies = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    ranks = [body["directions"]["t2i"]["judgments"]["ranks"] for body in bodies]
    mended = sum(after <= 2 < before for before, after in zip(*ranks, strict=True))
    new = sum(before <= 2 < after for before, after in zip(*ranks, strict=True))
    assert mended + new

    compared = run("compare", *files, "--rank", 2, "--report", tmp_path / "report")
    assert compared.exit_code == 0, compared.output
    assert f": {mended} failures mended, {new} new, of 12 queries" in compared.output
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert f"{mended} failures mended, {new} new, of 12 queries" in page
    assert "data:image/jpeg;base64," in page
    printed = json.loads(run("compare", *files, "--rank", 2, "--json").stdout)
    first = printed["changes"][0]
    assert (len(first["mended"]), len(first["new"])) == (mended, new)
    assert all(len(each["found_after"]) == 3 for each in first["mended"] + first["new"])

    # Without the dataset, ids stand for the queries, and there are no pictures.
    Path(captioned.partition(":")[2], "captions.jsonl").unlink()
    assert "#0" in run("compare", *files, "--rank", 2).output + "#0" * (mended == 0)
    assert run("compare", *files, "--report", tmp_path / "report").exit_code != 0


@pytest.mark.slow
def test_results_of_queries_are_compared_by_kind(run, captioned, tmp_path, tiny_checkpoint):
    file, other = tmp_path / "queries.json", tmp_path / "retrieval.json"
    common = ("--dataset", captioned, "--encoder", f"local-dir:{tiny_checkpoint}")
    common = (*common, "--cache", tmp_path / "cache")
    result = run(
        *("queries", *common, "--rerank", "none", "--least", 1, "--most", 4, "--captions", 4),
        *("--pairs", 0, "--json-file", file),
    )
    assert result.exit_code == 0, result.output
    compared = run("compare", file, file, "--report", tmp_path / "report", "--json")
    assert compared.exit_code == 0, compared.output
    rows = json.loads(compared.stdout)["rows"]
    assert {"caption", "absent"} <= {row["direction"] for row in rows}
    assert all(row["difference"] in {None, 0} for row in rows)
    assert "Comparison" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    run("retrieval", *common, "--metrics", "mrr", "--json-file", other)
    with pytest.raises(UsageError, match="not both"):
        raise run("compare", file, other).exception
    with pytest.raises(UsageError, match="at least two"):
        raise run("compare", file).exception
    with pytest.raises(UsageError, match="no metric of queries"):
        raise run("compare", file, file, "--metrics", "mrr").exception


def test_the_ablation_has_a_row_for_each_depth(run, captioned, random_fusion, tmp_path):
    result = run(
        *("ablation", "--dataset", captioned, "--cache", tmp_path / "cache", "--factory", "SQ8"),
        *("--metrics", "mrr", "--rerank", random_fusion, "--rerank-depths", "2,5", "--json"),
    )
    assert result.exit_code == 0, result.output
    rows = [row for row in json.loads(result.stdout)["rows"] if row["direction"] == "t2i"]
    assert [row["label"] for row in rows] == [
        "starter, flat, en",
        "starter, SQ8, en",
        "starter, SQ8 refined, en",
        f"starter, flat, rerank {random_fusion}@2, en",
        f"starter, flat, rerank {random_fusion}@5, en",
    ]
    assert all(0 <= row["p_value"] <= 1 for row in rows[1:])


def test_without_a_reranker_for_the_encoder_nothing_is_reranked(
    run, captioned, tiny_checkpoint, tmp_path
):
    encoder = f"local-dir:{tiny_checkpoint}"
    common = ("--dataset", captioned, "--cache", tmp_path / "cache", "--encoder", encoder)
    result = run("ablation", *common, "--factory", "SQ8", "--metrics", "mrr", "--json")
    assert result.exit_code == 0, result.output
    assert "There is no reranker for local-dir:" in result.stderr
    rows = json.loads(result.stdout)["rows"]
    assert len({row["label"] for row in rows}) == 3
    with pytest.raises(UsageError, match="no reranker to measure"):
        raise run("reranking", captioned.partition(":")[2], "--encoder", encoder).exception


@pytest.mark.parametrize("depths", ["10,x", "0", "-5"])
def test_depths_that_are_no_depths_are_refused(run, captioned, depths):
    with pytest.raises(UsageError, match="--rerank-depths"):
        raise run("ablation", "--dataset", captioned, "--rerank-depths", depths).exception
