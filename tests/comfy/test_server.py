"""How `ComfyServer` fails: with the reason, and without leaving processes or files behind."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from comfy_server import ComfyServer

ENDS_AT_ONCE = "print('no such model'); raise SystemExit(3)"

NEVER_ANSWERS = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(__file__).with_name("child").write_text(str(child.pid))
time.sleep(600)
"""

PACK_IS_BROKEN = """
import http.server, os, sys
base, port = (sys.argv[sys.argv.index(flag) + 1] for flag in ("--base-directory", "--port"))
print("   0.0 seconds (IMPORT FAILED): " + os.path.join(base, "custom_nodes", "ccvd"), flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")
http.server.HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""


def start(main: str, folder: Path, quiet: float = 60.0) -> None:
    """Start a stand-in for ComfyUI whose main.py is `main`."""
    from comfy_server import ComfyServer

    (folder / "main.py").write_text(main, encoding="utf-8")
    with ComfyServer(folder, base_directory=folder / "base", quiet=quiet):
        pytest.fail("this ComfyUI must not start")


def test_a_comfyui_that_ends_says_why(tmp_path: Path) -> None:
    from comfy_messages import ComfyError

    with pytest.raises(ComfyError, match=r"(?s)exit code 3.*no such model"):
        start(ENDS_AT_ONCE, tmp_path)


def test_a_pack_that_does_not_import_is_an_error(tmp_path: Path) -> None:
    from comfy_messages import ComfyError

    with pytest.raises(ComfyError, match="could not import this pack"):
        start(PACK_IS_BROKEN, tmp_path)
    assert not os.path.lexists(tmp_path / "base" / "custom_nodes" / "ccvd")


@pytest.mark.skipif(sys.platform == "win32", reason="process groups work differently there")
def test_no_child_outlives_the_server(tmp_path: Path) -> None:
    from comfy_messages import ComfyError

    with pytest.raises(ComfyError, match=r"does not start: nothing has moved for \d s"):
        start(NEVER_ANSWERS, tmp_path, quiet=3.0)
    child = int((tmp_path / "child").read_text(encoding="utf-8"))
    deadline = time.monotonic() + 10
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_running(child)


def is_running(pid: int) -> bool:
    """False also for a process that has ended and that nobody has asked about yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    return not (status.is_file() and "State:\tZ" in status.read_text(encoding="utf-8"))


def test_a_node_that_fails_is_named_with_its_message(server: ComfyServer) -> None:
    from comfy_messages import ComfyError

    (server.base / "input" / "nothing_here").mkdir()
    load = {"class_type": "LoadImageDataSetFromFolder", "inputs": {"folder": "nothing_here"}}
    show = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    with pytest.raises(ComfyError, match="No valid images found") as error:
        server.run({"1": load, "2": show})
    assert error.value.node_type == "LoadImageDataSetFromFolder"


STAND_IN = """
import asyncio, json, sys
from aiohttp import web
seconds = float(open(__file__.replace("main.py", "seconds")).read())
sockets = []
async def stats(request):
    return web.json_response({})
async def history(request):
    return web.json_response({"p": {"outputs": "all of them"}})
async def events(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    sockets.append(socket)
    async for _ in socket:
        pass
    return socket
async def tell(kind, **data):
    await sockets[-1].send_str(json.dumps({"type": kind, "data": {"prompt_id": "p", **data}}))
async def work():
    for _ in range(int(seconds * 5)):
        await asyncio.sleep(0.2)
        await tell("progress")
    if seconds:
        await tell("execution_success")
async def prompt(request):
    request.app["work"] = asyncio.create_task(work())
    return web.json_response({"prompt_id": "p", "node_errors": {}})
app = web.Application()
app.add_routes([web.get("/system_stats", stats), web.get("/history/p", history), web.get("/ws", events)])
app.add_routes([web.post("/prompt", prompt)])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[sys.argv.index("--port") + 1]))
"""
"""Runs any graph in so many seconds, with a message five times a second; in none, it never says anything."""


@pytest.mark.parametrize("seconds", [5.0, 0.0])
def test_a_run_is_waited_for_while_it_moves(tmp_path: Path, seconds: float) -> None:
    from comfy_messages import ComfyError
    from comfy_server import ComfyServer

    (tmp_path / "main.py").write_text(STAND_IN, encoding="utf-8")
    (tmp_path / "seconds").write_text(str(seconds), encoding="utf-8")
    with ComfyServer(tmp_path, base_directory=tmp_path / "base", quiet=3.0) as server:
        if seconds:
            assert server.run({}) == {"outputs": "all of them"}
        else:
            with pytest.raises(ComfyError, match=r"The run does not end: nothing has moved for \d s"):
                server.run({})
