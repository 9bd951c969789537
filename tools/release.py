"""What the release workflow asks: does a tag fit, what is new in it, where is the project at home?

python -m tools.release check v0.1.0
python -m tools.release notes v0.1.0
python -m tools.release urls https://github.com/OWNER/REPOSITORY
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def section(version: str, root: Path = ROOT) -> tuple[str, str]:
    """What the changelog has in parentheses behind a version, and what it tells of it."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(
        rf"^## {re.escape(version)} \((.*?)\)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE
    )
    if not found:
        raise SystemExit(f"CHANGELOG.md has no section `## {version} (DATE)`")
    return found[1], found[2].strip()


def check(tag: str, root: Path = ROOT) -> None:
    """Exit with a message unless a tag is the version, and the changelog dates it."""
    version = tag.removeprefix("v")
    stated = {
        "pyproject.toml": tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    }
    for line in (root / "CITATION.cff").read_text().splitlines():
        if line.startswith("version:"):
            stated["CITATION.cff"] = line.partition(":")[2].strip()
    for name, other in stated.items():
        if other != version:
            raise SystemExit(f"{name} has the version {other}, the tag is {tag}")
    date, _ = section(version, root)
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", date):
        raise SystemExit(f"CHANGELOG.md does not date {version}, but says: {date}")


def state_urls(address: str, root: Path = ROOT) -> None:
    """Write the addresses of the repository that makes a release into pyproject.toml."""
    path = root / "pyproject.toml"
    text = path.read_text()
    if "[project.urls]" in text:
        raise SystemExit("pyproject.toml has addresses already")
    lines = ["[project.urls]"]
    for name, where in {
        "Repository": "",
        "Documentation": "/tree/main/docs",
        "Changelog": "/blob/main/CHANGELOG.md",
        "Issues": "/issues",
    }.items():
        lines.append(f'{name} = "{address}{where}"')
    told = "\n".join(lines)
    path.write_text(text.replace("[project.scripts]", f"{told}\n\n[project.scripts]", 1))


def main() -> None:
    """Do what the first argument says."""
    match sys.argv[1:]:
        case ["check", tag]:
            check(tag)
        case ["notes", tag]:
            print(section(tag.removeprefix("v"))[1])  # noqa: T201
        case ["urls", address]:
            state_urls(address)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
