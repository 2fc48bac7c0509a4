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


def start(main: str, folder: Path, timeout: float = 60.0) -> None:
    """Start a stand-in for ComfyUI whose main.py is `main`."""
    from comfy_server import ComfyServer

    (folder / "main.py").write_text(main, encoding="utf-8")
    with ComfyServer(folder, base_directory=folder / "base", start_timeout=timeout):
        pytest.fail("this ComfyUI must not start")


def test_a_comfyui_that_ends_says_why(tmp_path: Path) -> None:
    from comfy_server import ComfyError

    with pytest.raises(ComfyError, match=r"(?s)exit code 3.*no such model"):
        start(ENDS_AT_ONCE, tmp_path)


def test_a_pack_that_does_not_import_is_an_error(tmp_path: Path) -> None:
    from comfy_server import ComfyError

    with pytest.raises(ComfyError, match="could not import this pack"):
        start(PACK_IS_BROKEN, tmp_path)
    assert not os.path.lexists(tmp_path / "base" / "custom_nodes" / "ccvd")


@pytest.mark.skipif(sys.platform == "win32", reason="process groups work differently there")
def test_no_child_outlives_the_server(tmp_path: Path) -> None:
    from comfy_server import ComfyError

    with pytest.raises(ComfyError, match="did not answer within 3 s"):
        start(NEVER_ANSWERS, tmp_path, timeout=3.0)
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
    from comfy_server import ComfyError

    (server.base / "input" / "nothing_here").mkdir()
    load = {"class_type": "LoadImageDataSetFromFolder", "inputs": {"folder": "nothing_here"}}
    show = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    with pytest.raises(ComfyError, match="No valid images found") as error:
        server.run({"1": load, "2": show}, timeout=60)
    assert error.value.node_type == "LoadImageDataSetFromFolder"
