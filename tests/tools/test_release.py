import tomllib

import pytest

from tools.release import ROOT, check, section, state_urls

CHANGELOG = "# Changelog\n\n## 1.1.0 (unreleased)\n\n- New.\n\n## 1.0.0 (2026-12-01)\n\n- First.\n"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "CITATION.cff").write_text("title: mmsearch\nversion: 1.0.0\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.0.0"\n\n[project.scripts]\n')
    return tmp_path


def test_a_tag_that_fits(project):
    check("v1.0.0", project)
    assert section("1.0.0", project) == ("2026-12-01", "- First.")
    assert section("1.1.0", project) == ("unreleased", "- New.")


@pytest.mark.parametrize(
    ("tag", "name", "before", "after", "said"),
    [
        ("v1.0.1", "CITATION.cff", "", "", "pyproject.toml has the version 1.0.0"),
        ("v1.0.0", "CITATION.cff", "1.0.0", "0.9", "CITATION.cff has the version 0.9"),
        ("v1.0.0", "CHANGELOG.md", "2026-12-01", "unreleased", "does not date 1.0.0"),
        ("v1.0.0", "CHANGELOG.md", "## 1.0.0", "## 1.0", "no section"),
    ],
)
def test_a_tag_that_does_not_fit(project, tag, name, before, after, said):
    path = project / name
    path.write_text(path.read_text().replace(before, after) if before else path.read_text())
    with pytest.raises(SystemExit, match=said):
        check(tag, project)


def test_addresses_are_those_of_the_repository(project):
    state_urls("https://example.org/a/b", project)
    urls = tomllib.loads((project / "pyproject.toml").read_text())["project"]["urls"]
    assert urls["Issues"] == "https://example.org/a/b/issues"
    with pytest.raises(SystemExit, match="already"):
        state_urls("https://example.org/a/b", project)


def test_this_version_is_in_the_changelog():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert section(version)[1]
