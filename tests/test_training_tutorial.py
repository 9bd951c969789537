"""The tutorial of training does what it says: its own commands, in turn, on 200 photos."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval.library import open_library
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")
PHOTOS = 200

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def commands() -> list[str]:
    """Commands of the page, but for those that need several GPUs."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if not line.startswith("torchrun")]


@pytest.fixture(scope="module")
def followed(
    tmp_path_factory: pytest.TempPathFactory, shared_data: Path
) -> tuple[Path, dict[str, str]]:
    """The folder of somebody who followed the page, and what each command printed."""
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "photos").mkdir()
    with (
        (shared_data / "flickr8k" / "captions.jsonl").open(encoding="utf-8") as file,
        (folder / "photos.csv").open("w", encoding="utf-8", newline="") as table,
    ):
        writer = csv.writer(table)
        writer.writerow(["file", "caption"])
        for _, line in zip(range(PHOTOS), file, strict=False):
            photo = json.loads(line)
            shutil.copy(shared_data / "flickr8k" / "images" / photo["image"], folder / "photos")
            writer.writerow([photo["image"], photo["en"][0]])
    program = folder / "bin" / "mmsearch"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom api.cli import main\nmain()\n")
    program.chmod(0o755)
    surroundings = os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    printed = {}
    for command in commands():
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=surroundings,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        printed[command] = done.stdout
    return folder, printed


def test_training_gains_what_the_page_promises(followed: tuple[Path, dict[str, str]]) -> None:
    folder, _ = followed
    result = json.loads((folder / "trained" / "result.json").read_text())
    for figure in result["figures"]:
        assert figure["after"]["value"] >= figure["before"]["value"], figure["metric"]
    [gain] = [each for each in result["figures"] if each["metric"] == "text to image R@10"]
    assert gain["after"]["value"] > gain["before"]["value"] + 0.1


def test_the_files_that_the_page_lists_are_there(followed: tuple[Path, dict[str, str]]) -> None:
    folder, _ = followed
    _, _, listed = PAGE.partition("`trained` then holds")
    names = re.findall(r"^\| `([^`]+)` \|", listed.partition("\n## ")[0], re.MULTILINE)
    assert len(names) > 3
    for name in names:
        assert (folder / "trained" / name).exists(), name


def test_the_photos_are_searched_with_the_trained_encoder(
    followed: tuple[Path, dict[str, str]],
) -> None:
    folder, printed = followed
    [search] = [command for command in printed if command.startswith("mmsearch search")]
    assert ".jpg" in printed[search]
    library = open_library(folder / "trained-library")
    assert library.space().encoder.startswith("local-dir:")
    assert library.space().encoder.endswith("trained/encoder")
    library.close()
