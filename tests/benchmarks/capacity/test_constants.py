import re

from benchmarks.capacity.constants import constants, value
from tests.conftest import REPOSITORY


def test_every_constant_has_a_unit_and_a_source():
    for constant in constants().values():
        assert constant.value > 0
        assert constant.unit
        assert len(constant.source) > 10, constant.name


def test_every_constant_is_used_and_every_used_one_exists():
    folder = REPOSITORY / "benchmarks" / "capacity"
    text = "".join(file.read_text(encoding="utf-8") for file in folder.glob("*.py"))
    used = set(re.findall(r'\bvalue\(\s*"(\w[\w-]*)"', text))
    published = {name for name in constants() if name.startswith("gpu_images_")}
    assert used | published == constants().keys()


def test_files_that_sources_name_exist():
    for constant in constants().values():
        for path in re.findall(r"(?:retrieval|docs)/[\w/]+\.(?:py|md)", constant.source):
            if "github.com" not in constant.source:
                assert (REPOSITORY / path).exists(), constant.name


def test_a_value_is_read_by_its_name():
    assert value("hours_per_month") == 730
