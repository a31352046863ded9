"""A real browser without a window."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def browse(url: str, *options: str) -> tuple[str, str]:
    """Load a page, let it run for some seconds of its own time; return its final HTML and what it logged."""
    assert CHROMIUM is not None
    profile = tempfile.mkdtemp(prefix="obs-hub-browser-")
    command = [CHROMIUM, "--headless", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={profile}", "--enable-logging=stderr", "--virtual-time-budget=12000", *options]
    if os.geteuid() == 0:
        command.append("--no-sandbox")  # which Chromium cannot have as root
    try:
        done = subprocess.run([*command, url], capture_output=True, text=True, timeout=120, check=True)
    finally:
        shutil.rmtree(profile, ignore_errors=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
