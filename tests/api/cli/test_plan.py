import json

import pytest

from benchmarks.capacity.constants import constants
from tests.benchmarks.capacity.test_measurements import throughput
from tests.test_docs import documented_keys


def ran(run, *options):
    result = run("plan", *options)
    assert result.code == 0, result.err
    return result.out


def keys_of(printed):
    """The keys of objects at every depth."""
    if isinstance(printed, list):
        for one in printed:
            yield from keys_of(one)
    elif isinstance(printed, dict):
        yield from printed
        yield from keys_of(list(printed.values()))


def test_a_billion_images_are_planned(run):
    text = ran(run, "--images", "1e9", "--megapixels", 12, "--encoder", "ViT-L-14")
    assert "38 GPUs" in text
    assert "thumbnails" in text


def test_json_has_every_sum_and_the_documented_keys(run):
    [plan] = json.loads(ran(run, "--images", "1e9", "--json"))["plans"]
    assert plan["wanted"]["images"] == 10**9
    stored = sum(one["bytes"] for one in plan["bytes"] if one["place"] == "stored")
    assert plan["stored_bytes"] == pytest.approx(stored)
    paid = sum(cost["amount"] for cost in plan["costs"])
    assert plan["money_once"] + plan["money_monthly"] == pytest.approx(paid)
    printed = json.loads(ran(run, "--images", "1e9", "--json", "--explain"))
    assert printed["sources"].keys() == constants().keys()
    named_by_user = set(constants()) | set(plan["index_kinds"])
    assert documented_keys("plan") == set(keys_of(printed)) - named_by_user


def test_several_sizes_are_a_table(run):
    text = ran(run, "--images", "1e8, 1e9")
    assert text.startswith("| | 100,000,000 images | 1,000,000,000 images |")


def test_options_change_what_they_name(run):
    def planned(*options):
        return json.loads(ran(run, "--images", "1e9", "--json", *options))["plans"][0]

    plain = planned()
    assert planned("--hours", 48)["fleet"]["machines"] < plain["fleet"]["machines"]
    assert planned("--machines", 7)["fleet"]["machines"] == 7
    assert planned("--machines", 7, "--gpus", 3)["fleet"]["gpus"] == 0  # starter runs on cores
    assert planned("--thumbnails", "none")["stored_bytes"] < plain["stored_bytes"]
    assert planned("--dimension", 64)["stored_bytes"] < plain["stored_bytes"]
    assert planned("--texts", "1e9")["stored_bytes"] > plain["stored_bytes"]
    assert planned("--machine-memory", "32GB")["serving"]["shards"] > 1
    assert planned("--machine-disk", "1TB")["serving"]["shards"] > 1
    assert planned("--price-core-hour", 0)["money_once"] < plain["money_once"]
    assert planned("--price-tb-month", 46)["money_monthly"] > plain["money_monthly"]
    assert planned("--encoder", "auto")["wanted"]["encoder"].startswith("open_clip:")
    originals = planned("--image-size", "5MB")["bytes"][0]
    assert (originals["name"], originals["bytes"]) == ("originals", 5e15)


def test_own_measurements_are_used(run, tmp_path):
    file = tmp_path / "mine.json"
    body = throughput("local-dir:/models/mine", seconds=0.002)
    body["sizes"][0]["megapixels"] = None
    file.write_text(json.dumps(body))
    options = ("--encoder", "local-dir:/models/mine", "--measured", file, "--dimension", 256)
    [plan] = json.loads(ran(run, "--images", "1e6", "--json", *options))["plans"]
    assert plan["encoding"]["seconds"] == pytest.approx(0.002)
    assert str(file) in ran(run, "--images", "1e6", "--explain", *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--images", "many"), "--images takes a whole number from 1"),
        (("--images", "1.5"), "--images takes a whole number from 1"),
        (("--images", "0"), "--images takes a whole number from 1"),
        (("--images", "-1e9"), "--images takes a whole number from 1"),
        (("--images", "1e13"), "--images takes a whole number from 1"),
        (("--images", "nan"), "--images takes a whole number from 1"),
        (("--images", "inf"), "--images takes a whole number from 1"),
        (("--images", ","), "--images takes a number of images"),
        (("--images", "1e6", "--texts", "-1"), "--texts takes a whole number from 0"),
        (("--images", "1e6", "--thumbnails", "huge"), "--thumbnails takes pixels"),
        (("--images", "1e6", "--thumbnails", "5"), "--thumbnails takes pixels"),
        (("--images", "1e6", "--machine-memory", "much"), "'much' is not a size"),
        (("--images", "1e6", "--machine-disk", "0"), "is no size"),
        (("--images", "1e6", "--encoder", "ViT-L-15"), "is unknown. Similar: ViT-L-1"),
        (("--images", "1e6", "--gpus", "2"), "--gpus needs --machines"),
        (("--images", "1e6", "--recall", "0.9999"), "--target-recall 0.9999"),
        (("--images", "1e6", "--measured", "none.json"), "cannot be read"),
    ],
)
def test_nonsense_is_refused(run, options, message):
    result = run("plan", *options)
    assert (result.code, result.out) == (2, "")
    assert message in " ".join(result.err.split())


@pytest.mark.parametrize(
    "options",
    [("--megapixels", "0"), ("--hours", "-1"), ("--price-gpu-hour", "-2"), ("--recall", "1.5")],
)
def test_numbers_out_of_range_are_refused(run, options):
    assert run("plan", "--images", "1e6", *options).code == 2


@pytest.mark.slow
def test_what_the_benchmarks_print_is_taken(run, tmp_path, picture_folder, encoder_name):
    commands = {
        "throughput": (
            *("throughput", picture_folder, "--encoder", encoder_name, "--limit", 2),
            *("--megapixels", "0.002,0.02", "--rounds", 1, "--workers", 1),
        ),
        "vectors": (
            *("vectors", "--growth", "400,800", "--queries", 100, "--threads", 1),
            *("--dimension", 32, "--cache", tmp_path / "cache"),
        ),
        "catalog": ("catalog", "--items", 300, "--rounds", 1),
    }
    options = []
    for name, command in commands.items():
        printed = run("bench", *command, "--json")
        assert printed.code == 0, printed.err
        (tmp_path / name).write_text(printed.out)
        options += ["--measured", tmp_path / name]
    options += ["--encoder", encoder_name, "--dimension", 32, "--megapixels", 0.01]
    [plan] = json.loads(ran(run, "--images", "1e6", "--json", *options))["plans"]
    assert plan["encoding"]["source"] == str(tmp_path / "throughput")
    told = json.loads((tmp_path / "throughput").read_text())["sizes"]
    sizes = sorted(size["file_bytes"] for size in told)
    assert sizes[0] < plan["image"]["file_bytes"] < sizes[1]
    text = ran(run, "--images", "1e6", "--explain", *options)
    assert all(str(tmp_path / name) in text for name in commands)
