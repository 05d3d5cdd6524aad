"""Debian's nginx in front of a master, with TLS and a path prefix, as the documents show it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from harness import skips
from harness.certificates import Pair
from harness.machine import HOST, free_port
from harness.processes import Process, Processes, until_listening

DOCUMENT = Path(__file__).parents[2] / "docs" / "tls.md"
RECIPE = re.compile(r"```nginx\n(.*?)```", re.DOTALL)
CONFIGURATION = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    {temporary}
{recipe}}}
"""
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def nginx() -> str:
    """The program; the test is skipped where there is none."""
    found = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin")
    return found or skips.missing("nginx is not installed")


def start_nginx(processes: Processes, pair: Pair, master_port: int) -> tuple[Process, int]:
    """Start it with the recipe of the documents, and return it with its port."""
    program, port = nginx(), free_port()
    (recipe,) = RECIPE.findall(DOCUMENT.read_text())
    for shown, own in (
        ("listen 443 ssl;", f"listen {HOST}:{port} ssl;"),
        ("/etc/dte/dte.example.com.pem", pair.cert),
        ("/etc/dte/dte.example.com.key", pair.key),
        ("127.0.0.1:5000", f"{HOST}:{master_port}"),
    ):
        assert shown in recipe, f"the recipe has {shown}"
        recipe = recipe.replace(shown, own)
    folder = processes.folder
    temporary = " ".join(f"{each}_temp_path {folder}/{each};" for each in TEMPORARY)
    configuration = folder / "nginx.conf"
    configuration.write_text(
        CONFIGURATION.format(folder=folder, temporary=temporary, recipe=recipe)
    )
    places = ("-p", str(folder), "-c", str(configuration), "-e", "stderr")
    process = processes.start(*places, program=(program,))
    until_listening(process, port)
    return process, port
