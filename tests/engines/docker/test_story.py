# SPDX-License-Identifier: Apache-2.0
"""The whole story of docs/engines/docker-story, which checks itself what it says."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from harness.docker import CLIENT, Daemon, Docker

TOP = Path(__file__).resolve().parents[3]
SCRIPT = TOP / "docs/engines/docker-story"
PAGE = TOP / "docs/engines/docker-story.md"
BEGIN = "<!-- what the script printed; OCIRUN_UPDATE_STORY=1 writes it anew -->\n"


def page(printed: str) -> str:
    """Return what the script printed as Markdown."""
    chapters = re.split(r"^== (.*) ==\n", printed, flags=re.MULTILINE)[1:]
    pairs = zip(chapters[::2], chapters[1::2], strict=True)
    return "\n".join(f"## {title}\n\n```console\n{text.strip()}\n```\n" for title, text in pairs)


def test_story(docker: Docker, daemon: Daemon, debian: str, scratch: Path) -> None:
    """From the first container to limits: everything is as the script says, and nothing is left."""
    env = {
        **os.environ,
        "DOCKER_HOST": daemon.docker.argv[-1],
        "PATH": f"{Path(CLIENT).parent}:{os.environ['PATH']}",
        "TMPDIR": str(scratch),
    }
    done = subprocess.run([SCRIPT], env=env, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=900, check=False)
    printed = done.stdout.decode(errors="replace")
    assert done.returncode == 0, printed[-3000:] + done.stderr.decode(errors="replace")[-2000:]
    assert "== The end ==" in printed
    assert docker("images", "--format", "{{.Repository}}").ok().lines.count("noted") == 0
    if os.environ.get("OCIRUN_UPDATE_STORY"):
        head = PAGE.read_text().partition(BEGIN)[0]
        PAGE.write_text(f"{head}{BEGIN}\n{page(printed)}")
