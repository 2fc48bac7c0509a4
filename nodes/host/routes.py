"""What the region editor asks the server: which concepts there are, and where an object goes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from ...ccvd_core.errors import CCVDError
from . import following
from .libraries import libraries, open_library


def register_routes() -> None:
    """`GET /ccvd/concepts` and `POST /ccvd/follow`, where there is a server: scripts import the nodes without one."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.routes.get("/ccvd/concepts")(concepts)
        server.routes.post("/ccvd/follow")(follow)


async def concepts(request: web.Request) -> web.Response:
    """{"libraries": {library: [concept, ...]}, "problems": {library: why it cannot be read}}.

    Of all libraries or of `?library=NAME`; 400 and {"error"} for a name that no library can have.
    """
    wanted = request.query.get("library")
    try:
        if wanted is not None:
            open_library(wanted)
        # The server answers nobody else while its own thread reads files.
        found = await asyncio.to_thread(lambda: concepts_of(libraries() if wanted is None else [wanted]))
    except CCVDError as error:
        return web.json_response({"error": str(error)}, status=400)
    return web.json_response(found)


def concepts_of(names: Sequence[str]) -> dict[str, Any]:
    """The concepts of these libraries; one that cannot be read does not hide the others."""
    found: dict[str, list[str]] = {}
    problems: dict[str, str] = {}
    for name in names:
        try:
            found[name] = open_library(name).names()
        except CCVDError as error:
            problems[name] = str(error)
    return {"libraries": found, "problems": problems}


async def follow(request: web.Request) -> web.Response:
    """{"keyframes": [{"t", "box"}], "range": [first, last time], "lost": {"before": why, "after": why}}.

    Of {"pictures": names, "box", "t", "frames"}; 400 and {"error"} where nothing can be followed.
    """
    try:
        asked = following.follow_request(await request.json())
        # One at a time: each takes a processor for seconds, and the server has to answer others.
        async with following.one_at_a_time:
            found = await asyncio.to_thread(following.answer, asked)
    except CCVDError as error:
        return web.json_response({"error": str(error)}, status=400)
    except ValueError:
        return web.json_response({"error": "The request is no JSON."}, status=400)
    return web.json_response(found)
