"""The MCP server, asked by the client of the official SDK: in this process, and over stdio."""

import base64
import io
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("mcp", reason="the extra mcp is not installed")

import anyio
from mcp import Client, StdioServerParameters

from api.mcp.server import build_server
from retrieval.search.joint import JointEngine
from retrieval.search.query import JointQuery, Query, Reranking, TextPart

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def library(coloured_library):
    return coloured_library


@pytest.fixture(scope="module")
def photos(library):
    with library.catalog.snapshot() as snapshot:
        [source] = snapshot.sources()
    return Path(source)


def call(server, tool: str, **arguments):
    async def ask():
        async with Client(server) as client:
            return await client.call_tool(tool, arguments)

    return anyio.run(ask)


@pytest.fixture(scope="module")
def server(library):
    return build_server(library, device="cpu", rerank="none")


def pictures(result) -> list[Image.Image]:
    return [
        Image.open(io.BytesIO(base64.b64decode(part.data)))
        for part in result.content
        if part.type == "image"
    ]


def test_the_tools_say_what_they_take_and_give_and_only_read(server):
    async def ask():
        async with Client(server) as client:
            return await client.list_tools()

    tools = {tool.name: tool for tool in anyio.run(ask).tools}
    assert set(tools) == {
        "search",
        "search_by_image",
        "similar",
        "get_item",
        "explain",
        "facets",
        "library_info",
    }
    for tool in tools.values():
        assert tool.description
        assert tool.output_schema
        assert tool.annotations.read_only_hint


def test_a_search_gives_hits_and_pictures(server, library):
    result = call(server, "search", text="blue", limit=3, pictures=2)
    assert not result.is_error
    hits = result.structured_content["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    found = JointEngine(library, device="cpu").search(
        JointQuery(Query((TextPart("blue"),), k=3)), Reranking("none")
    )
    assert [hit["item_id"] for hit in hits] == [hit.item.id for hit in found.hits]
    assert len(pictures(result)) == 2
    assert all(max(picture.size) <= 320 for picture in pictures(result))
    assert f"item {hits[0]['item_id']}: {hits[0]['path']}" in result.content[0].text


def test_filters_are_those_of_the_engine(server):
    filters = {"path": "*green*", "where": {"kind": ["image"]}}
    result = call(server, "search", text="blue", filters=filters, pictures=0)
    assert {Path(hit["path"]).name for hit in result.structured_content["hits"]} == {"1-green.png"}
    assert pictures(result) == []
    wrong = call(server, "search", text="blue", filters={"since": "soon"})
    assert wrong.is_error
    assert "taken_at" in wrong.content[0].text


def test_an_image_finds_itself_by_its_path_and_in_base64(server, photos):
    file = photos / "2-blue.png"
    sent = base64.b64encode(file.read_bytes()).decode()
    for question in ({"path": str(file)}, {"image_base64": sent}):
        result = call(server, "search_by_image", limit=1, **question)
        [hit] = result.structured_content["hits"]
        assert hit["path"] == str(file)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({}, "one of them"),
        ({"path": "/etc/passwd"}, "/etc/passwd"),
        ({"image_base64": "?"}, "base64"),
        ({"image_base64": base64.b64encode(b"no image").decode()}, "image"),
    ],
)
def test_what_is_no_image_is_told(server, question, said):
    result = call(server, "search_by_image", **question)
    assert result.is_error
    assert said in result.content[0].text
    assert "root:" not in result.content[0].text


def test_paths_can_be_forbidden(library, photos):
    server = build_server(library, device="cpu", rerank="none", allow_paths=False)
    result = call(server, "search_by_image", path=str(photos / "2-blue.png"))
    assert result.is_error
    assert "base64" in result.content[0].text


def test_an_item_its_neighbours_and_what_there_is(server, library, photos):
    first = call(server, "search", text="x", limit=1).structured_content["hits"][0]
    item = call(server, "get_item", item_id=first["item_id"])
    assert item.structured_content["path"] == first["path"]
    assert len(pictures(item)) == 1
    near = call(server, "similar", item_id=first["item_id"]).structured_content["hits"]
    assert near
    assert first["item_id"] not in {hit["item_id"] for hit in near}
    facts = call(server, "library_info").structured_content
    assert facts["sources"] == [str(photos)]
    assert facts["facets"]["total"] == facts["images"]
    assert call(server, "facets", filters={"kind": ["video"]}).structured_content["total"] == 0
    gone = call(server, "get_item", item_id=99_999)
    assert gone.is_error
    assert "no item 99999" in gone.content[0].text


def test_the_program_speaks_over_stdio(library):
    server = StdioServerParameters(
        command=sys.executable,
        args=[
            "-c",
            "from api.cli import main; main()",
            *("mcp", "--library", str(library.path), "--device", "cpu", "--rerank", "none"),
        ],
        env=dict(os.environ),
    )
    result = call(server, "search", text="blue", limit=2, pictures=1)
    assert len(result.structured_content["hits"]) == 2
    assert len(pictures(result)) == 1
