"""What the region editor asks the server: which concepts there are."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from aiohttp import web
from server import PromptServer

from ..ccvd_core.concept import check_name
from ..ccvd_core.errors import CCVDError
from .types import MODEL_FOLDER, open_library


def register_routes() -> None:
    """`GET /ccvd/concepts`, where there is a server: scripts import the nodes without one."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.routes.get("/ccvd/concepts")(concepts)


async def concepts(request: web.Request) -> web.Response:
    """{"libraries": {library: [concept, ...]}}, of all libraries or of `?library=NAME`."""
    wanted = request.query.get("library")
    try:
        names = libraries() if wanted is None else [wanted]
        return web.json_response({"libraries": {name: open_library(name).names() for name in names}})
    except CCVDError as error:
        return web.json_response({"error": str(error)}, status=400)


def libraries() -> list[str]:
    """Names of the folders that are libraries, by name."""
    folder = Path(folder_paths.get_folder_paths(MODEL_FOLDER)[0])
    found = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted(name for name in found if is_library_name(name))


def is_library_name(name: str) -> bool:
    try:
        return check_name(name) == name
    except CCVDError:
        return False
