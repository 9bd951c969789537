"""Settings of files: what counts before what, and what a library may not say."""

import os
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cli.options import option
from api.cli.settings import (
    SETTINGS,
    VARIABLE,
    library_defaults,
    parse_setting,
    read_settings,
    user_defaults,
    user_file,
    write_setting,
)
from retrieval.errors import UsageError

DANGEROUS = """
k = 4
rerank = "blip-itm:/tmp/theirs"
server = "https://listening.example"
library = "/tmp/theirs"
language = "zh"
device = "cuda"
update = true
unknown = 1
group = "yes"
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The user's file."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "config.toml"))
    for setting in SETTINGS.values():
        if setting.variable:
            monkeypatch.setenv(setting.variable, "x")
            monkeypatch.delenv(setting.variable)
    return tmp_path / "config.toml"


def test_a_library_cannot_set_what_is_dangerous(tmp_path):
    (tmp_path / "config.toml").write_text(DANGEROUS)
    assert library_defaults(tmp_path) == {"k": 4}
    for broken in ("", "k = ", "[k]\na = 1", "k = [" * 5000, "\x00"):
        (tmp_path / "config.toml").write_text(broken)
        assert library_defaults(tmp_path) == {}
    with pytest.raises(UsageError, match="A library cannot set server"):
        parse_setting("server", "https://x", of_library=True)
    with pytest.raises(UsageError, match="cannot set rerank to"):
        parse_setting("rerank", "blip-itm", of_library=True)
    assert parse_setting("rerank", "none", of_library=True) == "none"


def test_the_users_file_is_checked(file):
    assert user_file() == file
    assert user_defaults() == {}
    for wrong, why in [
        ("kk = 3", "no setting 'kk'"),
        ('k = "3"', "k takes a whole number"),
        ("k = true", "k takes a whole number"),
        ("k = ", "cannot be read"),
    ]:
        file.write_text(wrong)
        with pytest.raises(UsageError, match=f"{why}.*mmsearch config edit"):
            read_settings(file)


def test_variables_of_the_environment_count_first(file, monkeypatch):
    file.write_text('library = "/mine"\nserver = "https://mine"\ndiversity = 1\n')
    monkeypatch.setenv("MMSEARCH_SERVER", "https://other")
    assert user_defaults() == {"diversity": 1}
    assert os.environ["MMSEARCH_LIBRARY"] == "/mine"
    assert os.environ["MMSEARCH_SERVER"] == "https://other"


def test_values_are_read_as_what_they_are():
    assert parse_setting("k", "20") == 20
    assert parse_setting("group", "yes") is True
    assert parse_setting("diversity", "0.5") == 0.5
    assert parse_setting("min_relevance", "0.2") == "0.2"
    for key, text in (("k", "many"), ("k", "1.5"), ("group", "1"), ("nothing", "1")):
        with pytest.raises(UsageError):
            parse_setting(key, text)


REFUSED = {
    "k": ["0", "10001", "-1"],
    "kind": ["music", "image,music"],
    "modality": ["sound", "ANY"],
    "mode": ["fast"],
    "sort": ["size"],
    "min_relevance": ["2", "-0.1", "nan", "high"],
    "diversity": ["1.5", "-1", "nan"],
    "rerank": ["blip", "none:x", "blip-itm:", "vilt:"],
    "rerank_depth": ["0"],
    "rerank_budget": ["-1", "60001", "inf"],
    "encoder": ["clip", "open_clip:", "vit-l-14"],
    "language": ["klingon", "1"],
}
ACCEPTED = {
    "k": ["1", "10000"],
    "kind": ["image,photos", "video"],
    "modality": ["any", "text"],
    "mode": ["hybrid"],
    "sort": ["date-asc"],
    "min_relevance": ["auto", "0", "1"],
    "diversity": ["0", "1"],
    "rerank": ["none", "blip-itm", "blip-itm:/models/blip", "vilt:/models/vilt"],
    "rerank_depth": ["30"],
    "rerank_budget": ["0", "500.5"],
    "encoder": ["auto", "starter:1", "open_clip:ViT-L-14/openai", "local-dir:/models/mine"],
    "language": ["zh", "zh-CN"],
}


@pytest.mark.parametrize(("key", "text"), [(k, t) for k, texts in REFUSED.items() for t in texts])
def test_values_that_a_search_would_refuse_are_refused_when_set(key, text, file):
    with pytest.raises(UsageError, match=f"^{key} takes .*not "):
        parse_setting(key, text)
    toml = text if SETTINGS[key].kind is not str else repr(text)
    file.write_text(f"{key} = {toml}\n")
    with pytest.raises(UsageError, match=f"{key} takes .*mmsearch config edit"):
        read_settings(file)
    assert read_settings(file, of_library=True) == {}


@pytest.mark.parametrize(("key", "text"), [(k, t) for k, texts in ACCEPTED.items() for t in texts])
def test_values_that_a_search_takes_can_be_set(key, text):
    assert str(parse_setting(key, text)) == str(SETTINGS[key].kind(text))


@given(st.text())
def test_any_text_can_be_written_and_read(tmp_path_factory, text):
    file = tmp_path_factory.mktemp("config") / "config.toml"
    write_setting(file, "kind", text)
    assert tomllib.loads(file.read_text())["kind"] == text


def test_writing_keeps_comments_and_other_lines(tmp_path):
    file = tmp_path / "new" / "config.toml"
    write_setting(file, "k", 3)
    file.write_text("# mine\nk = 3\nkind = 'image'  # photos\n")
    write_setting(file, "k", 5)
    assert file.read_text() == "# mine\nkind = 'image'  # photos\nk = 5\n"
    write_setting(file, "kind", None)
    assert read_settings(file) == {"k": 5}


def test_settings_are_options_of_a_search():
    import typer

    from api.cli import app

    search = typer.main.get_command(app).commands["search"]
    names = {param.name for param in search.params}
    assert {key for key, setting in SETTINGS.items() if setting.variable is None} <= names
    assert option("--x", "X", "x", min=1).min == 1
