"""What a service of two shards by two replicas goes through; run apart, in a network of its own.

Prints as JSON what `test_replicas.py` looks at: python scenario.py LIBRARY FOLDER
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from api.cluster.deployment import Plan, deploy, deployed
from api.cluster.gateway import create_gateway
from api.cluster.runtime import connected
from api.http.app import create_app
from api.http.settings import ServiceSettings
from retrieval.library import open_library
from retrieval.shards.partition import make_shards

TEXTS = ("red", "a blue square", "green picture 7", "picture", "something else")
FILTERS: list[dict[str, Any]] = [{}, {"path": "**green**"}, {"width": {"min": 60}}]
PAGES = 3
READ = (
    "/v1/items?limit=7",
    "/v1/items?limit=7&order=date&offset=20",
    "/v1/items?limit=50&order=name",
    "/v1/items/3",
    "/v1/items/3/similar?k=5",
    "/v1/items/99999",
    "/v1/facets",
    "/v1/facets?text=red",
    "/v1/facets/values?facet=folders",
    "/v1/collections",
    "/v1/map?box=-90,-180,90,180",
)
SETTINGS = ServiceSettings(rerank="none", background_tokens=False, deadline_s=60)


@asynccontextmanager
async def client_of(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Ask an application as a client does."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app, client=("127.0.0.1", 1)),
            base_url="http://localhost",
            timeout=120,
        ) as client,
    ):
        yield client


def rounded(value: Any) -> Any:
    """Leave out what differs by chance: times, and the last digits of scores."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items() if name != "timings_ms"}
    return [rounded(one) for one in value] if isinstance(value, list) else value


def difference(found: Any, expected: Any, place: str = "") -> str | None:
    """Say where two answers differ; scores may by what batches of other sizes make of them."""
    if isinstance(expected, float) and isinstance(found, float):
        return None if abs(found - expected) < 1e-3 else f"{place}: {found}, not {expected}"
    if isinstance(expected, dict) and isinstance(found, dict) and found.keys() == expected.keys():
        told = (difference(found[name], one, f"{place}/{name}") for name, one in expected.items())
        return next((one for one in told if one), None)
    if isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        pairs = enumerate(zip(found, expected, strict=True))
        told = (difference(*pair, f"{place}/{number}") for number, pair in pairs)
        return next((one for one in told if one), None)
    return None if found == expected else f"{place}: {found}, not {expected}"[:300]


async def search(client: httpx.AsyncClient, body: dict[str, Any]) -> Any:
    """Search, and return the answer."""
    answer = await client.post("/v1/search", json=body)
    return rounded(answer.json()) if answer.status_code == 200 else answer.text


async def compare(whole: httpx.AsyncClient, sharded: httpx.AsyncClient) -> list[Any]:
    """List the answers that differ, with and without filters, page by page."""
    differing = []
    for text in TEXTS:
        for where in FILTERS:
            body: dict[str, Any] = {"text": text, "k": 5, "where": where, "min_relevance": 0}
            for _ in range(PAGES):
                expected, found = await search(whole, body), await search(sharded, body)
                if found != expected:
                    differing.append([body, expected, found])
                cursor = expected["next_cursor"]
                if cursor is None:
                    break
                body["cursor"] = cursor
    for address in READ:
        answers = [await client.get(address) for client in (whole, sharded)]
        if (
            len({one.status_code for one in answers}) > 1
            or len({json.dumps(rounded(one.json()), sort_keys=True) for one in answers}) > 1
        ):
            differing.append([address, *(one.text for one in answers)])
    return differing


async def under_load(
    client: httpx.AsyncClient, right: dict[str, Any], change: Callable[[], Awaitable[None]]
) -> Counter[str]:
    """Count answers by what is wrong with them, while something changes."""
    told: Counter[str] = Counter()
    is_over = asyncio.Event()

    async def ask(number: int) -> None:
        while not is_over.is_set():
            text = TEXTS[number % len(TEXTS)]
            answer = await client.post("/v1/search", json={"text": text, "k": 5})
            if answer.status_code != 200:
                told[f"{answer.status_code} {answer.text}"] += 1
            else:
                told[difference(rounded(answer.json()), right[text]) or "right"] += 1
            number += 1

    tasks = [asyncio.create_task(ask(number)) for number in range(4)]
    await change()
    await asyncio.sleep(2)
    is_over.set()
    await asyncio.gather(*tasks)
    return told


def replicas(name: str) -> list[int]:
    """List the processes of a deployment that descend from this one."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and _is_replica(entry, name):
                found.append(int(entry.name))
        except OSError:  # it has ended
            continue
    return sorted(found)


def _is_replica(process: Path, name: str) -> bool:
    if not (process / "cmdline").read_text().startswith(f"ray::ServeReplica:mmsearch:{name}"):
        return False
    while process.name not in {"0", "1"}:
        if process.name == str(os.getpid()):
            return True
        process = Path("/proc") / (process / "stat").read_text().rpartition(")")[2].split()[1]
    return False


async def run(library: Path, folder: Path) -> dict[str, Any]:
    """Go through it."""
    opened = open_library(library)
    plan = Plan(make_shards(opened, folder, 2), True, 2, SETTINGS)
    told: dict[str, Any] = {}
    say("shards made")
    with connected("local", cpus=plan.cpus), deployed(plan) as handle:
        gateway = create_gateway(handle, SETTINGS, is_sharded=True)
        alone = create_app(opened, SETTINGS)
        async with client_of(alone) as whole, client_of(gateway) as sharded:
            say("deployed")
            told["differing"] = await compare(whole, sharded)
            say("compared")
            thumbnails = [await one.get("/v1/items/3/thumbnail") for one in (whole, sharded)]
            told["thumbnails"] = [one.status_code for one in thumbnails]
            told["same_thumbnail"] = thumbnails[0].content == thumbnails[1].content
            told["refused"] = [
                (await sharded.post("/v1/index")).status_code,
                (await sharded.post("/v1/hidden", json={"items": [1]})).status_code,
            ]
            told["stats"] = (await sharded.get("/v1/stats")).json()["images"]
            told["link"] = (await sharded.post("/v1/items/3/link")).json()["url"]
            right = {text: await search(sharded, {"text": text, "k": 5}) for text in TEXTS}

            async def kill(name: str) -> None:
                await asyncio.sleep(1)
                os.kill(replicas(name)[0], signal.SIGKILL)

            told["killed"] = [
                await under_load(sharded, right, lambda name=name: kill(name))  # type: ignore[misc]
                for name in ("shard-1", "mmsearch")
            ]
            await _until(lambda: len(replicas("shard-1")) >= 2 and len(replicas("mmsearch")) >= 2)
            before = replicas("")
            say("killed")

            async def update() -> None:
                await asyncio.to_thread(deploy, plan)

            told["updated"] = await under_load(sharded, right, update)
            await _until(lambda: not set(before) & set(replicas("")))
            say("updated")
            told["replaced"] = len(before), len(set(before) & set(replicas("")))
            told["after"] = await compare(whole, sharded)
    opened.close()
    return told


def say(stage: str) -> None:
    """Tell how far it is, for who looks why it takes so long."""
    print(f"{time.monotonic():.0f} {stage}", file=sys.stderr, flush=True)


async def _until(holds: Callable[[], bool], seconds: float = 60) -> None:
    for _ in range(int(5 * seconds)):
        if holds():
            return
        await asyncio.sleep(0.2)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2])))))
