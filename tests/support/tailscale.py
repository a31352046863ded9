"""A stand-in for Tailscale's command, as `tailscale` 1.103 behaves with a real tailscaled.

It knows the options that this project uses and refuses all others, writes down each call, and keeps the serve
configuration in a file, of the shape that the real one prints. What it cannot show (whether packets come through, and
whether the control server allows Funnel) is left to the real one.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

NAME = "nas.tail1234.ts.net"
PATH = "/api/v1/webhooks/github"


class StandInTailscale:
    """An executable ``tailscale`` in a folder of its own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        program = directory / "tailscale"
        program.write_text(f"#!{sys.executable} -SE\n{_PROGRAM}")
        program.chmod(0o755)
        self.command = str(program)

    @property
    def calls(self) -> list[str]:
        """Each call so far, as it would be typed."""
        try:
            return (self.directory / "calls").read_text().splitlines()
        except FileNotFoundError:
            return []

    @property
    def changes(self) -> list[str]:
        """The calls that were meant to change something."""
        return [call for call in self.calls if " status " not in call]

    @property
    def config(self) -> dict[str, Any]:
        """What is exposed: Tailscale's ``ipn.ServeConfig``."""
        try:
            found: dict[str, Any] = json.loads((self.directory / "config").read_text())
        except FileNotFoundError:
            return {}
        return found

    def set_config(self, config: dict[str, Any]) -> None:
        fresh = self.directory / "config.new"
        fresh.write_text(json.dumps(config))
        fresh.replace(self.directory / "config")

    def run(self, command: str) -> int:
        """Do what a person at a terminal would."""
        return os.waitstatus_to_exitcode(os.system(f"{shlex.quote(self.command)} {command}"))

    def misbehave(self, how: str | None, only: str = "") -> None:
        """Fail with a message, or ``hang``, from now on; ``only`` for calls that hold a text. None ends it."""
        place = self.directory / "misbehaviour"
        if how is None:
            place.unlink(missing_ok=True)
        else:
            fresh = self.directory / "misbehaviour.new"
            fresh.write_text(json.dumps([how, only]))
            fresh.replace(place)

    def meanwhile(self, config: dict[str, Any]) -> None:
        """Have somebody else enter this just before the next change, where nobody could have looked yet."""
        (self.directory / "meanwhile").write_text(json.dumps(config))


def entry(proxy: str, path: str = PATH, port: int = 443, *, funnel: bool = True) -> dict[str, Any]:
    """The configuration in which one path of one port is exposed."""
    host = f"{NAME}:{port}"
    config: dict[str, Any] = {
        "TCP": {str(port): {"HTTPS": True}},
        "Web": {host: {"Handlers": {path: {"Proxy": proxy}}}},
    }
    return config | ({"AllowFunnel": {host: True}} if funnel else {})


_PROGRAM = (
    f"""
import json, os, shlex, sys, time

NAME = {NAME!r}
"""
    + r"""
here = os.path.dirname(os.path.abspath(sys.argv[0]))
arguments = sys.argv[1:]


def place(name):
    return os.path.join(here, name)


def load(name, otherwise):
    try:
        with open(place(name)) as file:
            return json.load(file)
    except FileNotFoundError:
        return otherwise


with open(place("calls"), "a") as calls:
    calls.write("tailscale " + shlex.join(arguments) + "\n")
how, only = load("misbehaviour", ["", ""])
if how and only in " ".join(arguments):
    if how == "hang":
        time.sleep(600)
    sys.exit(how)
config = load("config", {})
if arguments in (["serve", "status", "--json"], ["funnel", "status", "--json"]):
    print(json.dumps(config, indent=2))
    sys.exit(0)
if arguments[0] not in ("serve", "funnel"):
    sys.exit("unknown subcommand: " + arguments[0])
options, words = {}, []
for argument in arguments[1:]:
    name, _, value = argument.partition("=")
    if not argument.startswith("--"):
        words.append(argument)
    elif name in ("--bg", "--https", "--set-path"):
        options[name] = value
    else:
        sys.exit("flag provided but not defined: " + name)
if len(words) != 1:
    sys.exit("Error: invalid argument format")
port, path = options.get("--https", "443"), options["--set-path"]
host = NAME + ":" + port
if os.path.exists(place("meanwhile")):
    config = load("meanwhile", {})
    os.unlink(place("meanwhile"))
handlers = config.get("Web", {}).get(host, {}).get("Handlers", {})
if words == ["off"]:
    if path not in handlers:
        sys.exit("error: failed to remove web serve: handler does not exist")
    del handlers[path]
    if not handlers:
        for section, key in (("Web", host), ("TCP", port), ("AllowFunnel", host)):
            config.get(section, {}).pop(key, None)
            if not config.get(section):
                config.pop(section, None)
else:
    if "--bg" not in options:
        sys.exit("this would stay in the foreground")
    if config.get("TCP", {}).get(port, {}).get("TCPForward"):
        sys.exit("error: failed apply web serve: cannot serve web; already serving TCP")
    config.setdefault("TCP", {})[port] = {"HTTPS": True}
    web = config.setdefault("Web", {}).setdefault(host, {"Handlers": {}})
    web["Handlers"][path] = {"Proxy": words[0]}
    if arguments[0] == "funnel":
        config.setdefault("AllowFunnel", {})[host] = True
    elif config.get("AllowFunnel", {}).pop(host, None):
        print("Removing Funnel for " + host, file=sys.stderr)
        if not config["AllowFunnel"]:
            del config["AllowFunnel"]
    print(arguments[0].capitalize() + " started and running in the background.")
with open(place("config.new"), "w") as file:
    json.dump(config, file)
os.replace(place("config.new"), place("config"))
"""
)
