"""Settings of the documentation site: `sphinx-build docs site` (the extra `docs`)."""

import os
import re
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

REPOSITORY = Path(__file__).resolve().parents[1]
# Documents of the repository that are pages of the site, too.
PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "retrieval/encoders/weights/MODEL_CARD.md": "starter.md",
    "retrieval/rerankers/weights/MODEL_CARD.md": "reranker.md",
}
# A link to a path, not to a part of the page or an address.
LINK = re.compile(r"(?<!!)\[(?P<text>[^\[\]]*)\]\((?P<path>[^\s():#]+)(?P<anchor>#[^\s()]*)?\)")

project = "mmsearch"
author = "The mmsearch authors"
project_copyright = author
release = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_nb"]
html_theme = "furo"
html_title = f"mmsearch {release}"
myst_heading_anchors = 4
# Notebooks are kept without outputs, and run whenever the site is made; an error fails the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
# Anchors in HTML (`<a name>`) are unknown to MyST: tests/test_site.py follows every link instead.
suppress_warnings = ["myst.xref_missing"]


def lead_to_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    """Lead links between documents of the repository to where these are on the site."""
    shown = {page.removesuffix(".md"): path for path, page in PAGES.items()}
    if docname in shown:
        source[0] = (REPOSITORY / shown[docname]).read_text(encoding="utf-8")
    origin = Path(shown.get(docname, f"docs/{docname}"))

    def lead(link: re.Match[str]) -> str:
        target = os.path.normpath(origin.parent / link["path"])
        page = PAGES.get(target, target.removeprefix("docs/") if target[:5] == "docs/" else None)
        if page:
            address = os.path.relpath(page, Path(docname).parent) + (link["anchor"] or "")
            return f"[{link['text']}]({address})"
        if repository := os.environ.get("GITHUB_REPOSITORY"):
            address = f"{os.environ['GITHUB_SERVER_URL']}/{repository}/blob/v{release}/{target}"
            return f"[{link['text']}]({address})"
        return link["text"]

    source[0] = LINK.sub(lead, source[0])


def setup(app: Sphinx) -> None:
    """Register what changes pages before they are read."""
    app.connect("source-read", lead_to_pages)
