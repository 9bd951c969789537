"""docs/scale.md and deploy/kubernetes say what the program has, and what its plans print."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from api.cli import app
from api.http.app import create_app
from benchmarks.capacity.measurements import bundled_measurements
from benchmarks.capacity.plan import make_plan
from benchmarks.capacity.records import Wanted
from tests.test_docs import commands

yaml = pytest.importorskip("yaml", reason="the examples for Kubernetes are read with PyYAML")

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "scale.md").read_text(encoding="utf-8")
DOCKERFILE = (REPOSITORY / "deploy" / "Dockerfile").read_text(encoding="utf-8")
MANIFESTS = {
    file.name: list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    for file in sorted((REPOSITORY / "deploy" / "kubernetes").glob("*.yaml"))
}


def parts(value):
    """Every object below a value of YAML."""
    if isinstance(value, list):
        for one in value:
            yield from parts(one)
    elif isinstance(value, dict):
        yield value
        for one in value.values():
            yield from parts(one)


def containers(kind="containers"):
    for name, documents in MANIFESTS.items():
        for part in parts(documents):
            for container in part.get(kind) or []:
                yield name, part, container


def called():
    """The command lines of mmsearch in the manifests."""
    for name, documents in MANIFESTS.items():
        for part in parts(documents):
            if "entrypoint" in part:
                yield name, shlex.split(part["entrypoint"])[1:]
    for name, _, container in containers():
        if "args" in container:
            yield name, container["args"]


def test_the_page_has_the_table_that_the_command_prints():
    [line] = re.findall(r"^`(mmsearch plan --images [^`]+)`, with the default", PAGE, re.MULTILINE)
    printed = CliRunner().invoke(app, shlex.split(line)[1:]).output
    assert printed.count("\n|") > 10
    assert printed.strip() in PAGE


def test_the_page_says_where_one_machine_ends():
    rows = dict(re.findall(r"^\| (\w+) \| ([\d.]+) [mb]illion(?: images)? \|", PAGE, re.MULTILINE))
    limits = make_plan(Wanted(10**6), bundled_measurements()).limits
    said = {
        limit.part: f"{limit.items / 1e9:.1f}" if limit.items >= 1e9 else f"{limit.items / 1e6:.0f}"
        for limit in limits
    }
    assert rows == said


def test_what_the_page_says_was_tested_has_tests():
    named = re.findall(r"`(tests/[\w/.]+)`", PAGE)
    assert len(named) > 5
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


def test_the_page_names_every_manifest():
    assert set(re.findall(r"`([\w.-]+\.yaml)`", PAGE)) == MANIFESTS.keys()


def test_manifests_run_commands_that_exist():
    known = dict(commands())
    lines = list(called())
    assert {words[0] for _, words in lines} == {"index", "serve", "copy"}
    for name, words in lines:
        for word in words:
            assert not word.startswith("--") or word in known[f"mmsearch {words[0]}"], (name, word)


def test_probes_ask_what_the_service_answers(tmp_path):
    paths = create_app(tmp_path).openapi()["paths"]
    found = [
        (container[probe]["httpGet"]["path"], container[probe]["httpGet"]["port"], container)
        for _, _, container in containers()
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        if probe in container
    ]
    assert {path for path, _, _ in found} == {"/healthz", "/readyz"}
    for path, port, container in found:
        assert "get" in paths[path]
        assert port in {one["name"] for one in container["ports"]}


def test_manifests_name_what_they_have():
    """Secrets, volumes and labels are those of the same example."""
    everything = [part for documents in MANIFESTS.values() for part in parts(documents)]
    secrets = {one["metadata"]["name"] for one in everything if one.get("kind") == "Secret"}
    used = {one["secretRef"]["name"] for one in everything if "secretRef" in one}
    used |= {one["secretName"] for one in everything if "secretName" in one}
    assert used == secrets
    claims = {
        one["metadata"]["name"] for one in everything if one.get("kind") == "PersistentVolumeClaim"
    }
    assert {one["claimName"] for one in everything if "claimName" in one} == claims
    for name, pod, container in containers():
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounted <= {volume["name"] for volume in pod["volumes"]}, name
        for key in mounted & {"keys"}:
            [volume] = [one for one in pod["volumes"] if one["name"] == key]
            [secret] = [
                one
                for one in MANIFESTS["secrets.example.yaml"]
                if one["metadata"]["name"] == volume["secret"]["secretName"]
            ]
            assert list(secret["stringData"]) == ["keys.txt"]
    labels = {one["app"] for one in everything if "app" in one}
    templates = {one["labels"]["app"] for one in everything if "app" in (one.get("labels") or {})}
    assert labels == templates


def test_the_image_of_the_manifests_is_built():
    targets = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE))
    tags = {container["image"].partition(":")[2] for _, _, container in containers()}
    assert tags == {"cluster"} <= targets
    assert "[all,cluster]" in DOCKERFILE
    assert set(re.findall(r"^USER (\d+)", DOCKERFILE, re.MULTILINE)) == {"10001"}
    for _, pod, _ in containers():
        assert pod["securityContext"]["runAsUser"] == 10001


def test_no_key_of_anybody_is_in_the_examples():
    values = [
        value
        for secret in MANIFESTS["secrets.example.yaml"]
        for key, value in secret["stringData"].items()
        if "REGION" not in key
    ]
    assert values
    assert all("REPLACE" in value for value in values)
