"""Pages in a real browser: those of other sites do nothing, and those of a master log in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from harness.browser import Browser
from harness.http import BlockingClient
from harness.machine import free_port
from harness.processes import DTE, Process, Processes, run, until

HANDLER = """
import dte
from pathlib import Path


@dte.handler("transfer")
def transfer(to):
    Path({effects!r}).write_text(to)
"""
PAGE = """<!doctype html><meta charset="utf-8"><body><pre id="said"></pre><script>
const master = "http://127.0.0.1:%(port)d";
const said = [];
const say = (what, outcome) => said.push(what + " " + outcome);
const post = (path, body) => fetch(master + path,
  {method: "POST", mode: "no-cors", headers: {"Content-Type": "text/plain"}, body});
const load = (kind, path) => new Promise(done => {
  const element = document.createElement(kind);
  element.onload = () => { say(kind, "loaded"); done(); };
  element.onerror = () => { say(kind, "refused"); done(); };
  element.src = master + path;
  document.body.append(element);
});
(async () => {
  for (const [path, body] of [
    ["/submit", '{"task": "40+2"}'],
    ["/jobs", '{"handler": "transfer", "args": ["mallory"]}'],
    ["/worker", '{"worker_name": "csrf", "port": 6666}'],
    ["/job/1/cancel", ""],
  ]) await post(path, body).then(() => say(path, "sent"), () => say(path, "failed"));
  await fetch(master + "/jobs").then(() => say("read", "yes"), () => say("read", "no"));
  await load("script", "/jobs");
  await load("img", "/jobs");
  document.getElementById("said").textContent = said.join("\\n") + "\\ndone";
})();
</script>"""


@pytest.fixture
def site() -> Iterator[Any]:
    """Serves a page at another address of this machine: ``site(page)`` gives its URL."""
    pages: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(pages["/"])

        def log_message(self, *values: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.2", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def serve(page: str) -> str:
        pages["/"] = page.encode()
        return f"http://127.0.0.2:{server.server_port}/"

    yield serve
    server.shutdown()
    server.server_close()
    thread.join()


def start_run(processes: Processes, folder: Path, port: int) -> tuple[Process, BlockingClient]:
    (folder / "bank.py").write_text(HANDLER.format(effects=str(folder / "effects")))
    process: Process = processes.start(
        *("run", "--port", str(port), "--handlers", "bank", "--journal", "none"),
        *("--log-level", "info"),
        PYTHONPATH=str(folder),
    )
    until(lambda: "Press Ctrl-C" in process.output, "dte run serves")
    return process, BlockingClient(port)


def test_a_page_of_another_site_does_nothing_to_dte_run(
    processes: Processes, tmp_path: Path, site: Any
) -> None:
    browser = Browser(tmp_path / "profile", ("rebound.example",))
    port = free_port()
    process, client = start_run(processes, tmp_path, port)
    job = client.value("POST", "/jobs", {"handler": "sleep", "args": [600]})["job_id"]
    before = {worker["worker_name"] for worker in client.get("/worker")}
    shown = browser.show(site(PAGE % {"port": port}))
    assert "\ndone" in shown, shown
    for outcome in ("/jobs failed", "read no", "script refused", "img refused"):
        assert outcome in shown
    for path in ("/submit", "/jobs", "/worker", "/job/1/cancel"):  # They did arrive.
        assert f"refused POST {path} with status 403" in process.output
    rebound = browser.show(f"http://rebound.example:{port}/jobs")
    assert "--host-names" in rebound
    assert not (tmp_path / "effects").exists()
    assert {worker["worker_name"] for worker in client.get("/worker")} == before
    assert client.get("/jobs")[0]["job_id"] == job
    assert not client.get(f"/job/{job}")["finished"]


def test_a_browser_sees_the_pages_of_dte_run(processes: Processes, tmp_path: Path) -> None:
    browser = Browser(tmp_path / "profile")
    port = free_port()
    start_run(processes, tmp_path, port)
    shown = browser.show(f"http://localhost:{port}/docs#post_submit")
    assert "/job/{id}/why" in shown
    assert "this needs a token of the role admin or client." in shown


def test_a_link_of_dte_open_logs_a_browser_in(processes: Processes, tmp_path: Path) -> None:
    browser = Browser(tmp_path / "profile")
    port = free_port()
    tokens = str(tmp_path / "dte.tokens")
    token = run(*DTE, "token", "new", "reader", "anna", "--tokens", tokens).stdout.strip()
    processes.start_master(port, DTE_TOKENS=tokens, DTE_JOURNAL="none")
    master = f"http://localhost:{port}"
    assert "Log in" in browser.show(f"{master}/docs")
    link = run(*DTE, "open", "--print", "--master", master, DTE_TOKEN=token).stdout.strip()
    assert "/job/{id}/why" in browser.show(link)
    assert "Log in" in Browser(tmp_path / "other").show(link)
