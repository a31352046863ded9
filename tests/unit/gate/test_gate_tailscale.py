"""Opening and closing one path by Tailscale's command, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.extensions.gate.tailscale import BlockedError, Tailscale, TailscaleError
from tests.support.tailscale import NAME, PATH, StandInTailscale, entry

PROXY = f"http://127.0.0.1:8085{PATH}"
OPEN = f"tailscale funnel --bg --https=443 --set-path={PATH} {PROXY}"
CLOSE = f"tailscale serve --https=443 --set-path={PATH} off"
OWN = "serve --bg --https=443 --set-path=/own http://127.0.0.1:3000"


@pytest.fixture
def stand_in(tmp_path: Path) -> StandInTailscale:
    return StandInTailscale(tmp_path / "bin")


def on(stand_in: StandInTailscale, mode: str = "funnel", timeout: float = 20.0) -> Tailscale:
    return Tailscale(stand_in.command, mode, 443, PATH, PROXY, timeout)


def test_it_opens_and_closes_by_the_documented_commands(stand_in: StandInTailscale) -> None:
    tailscale = on(stand_in)
    assert tailscale.is_as_it_should(tailscale.open())
    assert stand_in.config == entry(PROXY)
    assert tailscale.close().mount is None
    assert stand_in.config == {}
    assert stand_in.changes == [OPEN, CLOSE]


def test_in_serve_mode_only_the_tailnet_is_let_in(stand_in: StandInTailscale) -> None:
    on(stand_in, "serve").open()
    assert stand_in.config == entry(PROXY, funnel=False)
    assert stand_in.changes == [OPEN.replace("funnel", "serve")]


def test_what_is_so_already_is_not_done_again(stand_in: StandInTailscale) -> None:
    on(stand_in).close()
    assert stand_in.changes == []
    on(stand_in).open()
    on(stand_in).open()
    assert stand_in.changes == [OPEN]


def test_an_entry_that_leads_elsewhere_is_replaced(stand_in: StandInTailscale) -> None:
    stand_in.set_config(entry("http://127.0.0.1:1/old"))
    on(stand_in).open()
    assert stand_in.config == entry(PROXY)


def test_funnel_is_not_opened_where_it_would_expose_the_users_own_entries(stand_in: StandInTailscale) -> None:
    assert stand_in.run(OWN) == 0
    before = stand_in.config
    with pytest.raises(BlockedError, match=f"/own on {NAME}:443.*https_port"):
        on(stand_in).open()
    assert stand_in.config == before
    assert len(stand_in.changes) == 1


def test_the_users_entries_on_the_port_survive_opening_and_closing_in_serve_mode(stand_in: StandInTailscale) -> None:
    stand_in.run(OWN)
    before = stand_in.config
    on(stand_in, "serve").open()
    on(stand_in, "serve").close()
    assert stand_in.config == before


def test_closing_leaves_the_entries_of_other_ports_and_paths_alone(stand_in: StandInTailscale) -> None:
    stand_in.run("funnel --bg --https=8443 --set-path=/own http://127.0.0.1:3000")
    before = stand_in.config
    on(stand_in).open()
    on(stand_in).close()
    assert stand_in.config == before


def test_an_entry_that_was_made_at_the_same_moment_does_not_stay_public(stand_in: StandInTailscale) -> None:
    own = entry("http://127.0.0.1:3000", path="/own", funnel=False)
    stand_in.meanwhile(own)
    with pytest.raises(BlockedError, match="/own"):
        on(stand_in).open()
    assert stand_in.config == own


def test_closing_works_while_the_status_cannot_be_read_and_is_believed_only_when_it_can(
    stand_in: StandInTailscale,
) -> None:
    on(stand_in).open()
    stand_in.misbehave("out of order", only="status")
    with pytest.raises(TailscaleError, match="out of order"):
        on(stand_in).close()
    assert stand_in.config == {}
    stand_in.misbehave(None)
    assert on(stand_in).close().mount is None


def test_an_entry_that_stays_is_an_error_with_the_command_to_remove_it_by_hand(stand_in: StandInTailscale) -> None:
    on(stand_in).open()
    stand_in.misbehave("error: failed to remove web serve", only=" off")
    with pytest.raises(TailscaleError, match=f"still exposed.*failed to remove.*--set-path={PATH} off"):
        on(stand_in).close()


def test_an_exit_code_of_zero_is_not_believed(stand_in: StandInTailscale, tmp_path: Path) -> None:
    """Where Funnel is not allowed, the command may print where to allow it, and end with 0."""
    program = tmp_path / "asks"
    program.write_text(
        "#!/bin/sh\n[ \"$2\" = status ] && echo '{}' && exit 0\n"
        "echo 'Funnel is not enabled on your tailnet. To enable, visit: https://login.tailscale.com/f/funnel'\n"
    )
    program.chmod(0o755)
    tailscale = Tailscale(str(program), "funnel", 443, PATH, PROXY, 20)
    with pytest.raises(TailscaleError, match=r"login\.tailscale\.com/f/funnel.*node attribute 'funnel'"):
        tailscale.open()


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            "getting serve config: Failed to connect to local Tailscale daemon for /localapi/v0/serve-config; not "
            "running? Error: dial unix /run/tailscale/tailscaled.sock: connect: no such file or directory",
            "systemctl start tailscaled",
        ),
        ("Logged out.", "tailscale up"),
        ("Access denied: serve config denied\n\nUse 'sudo tailscale serve status'.", "--operator=USER"),
        ("Funnel not available; HTTPS must be enabled. See https://tailscale.com/s/https.", "node attribute 'funnel'"),
    ],
)
def test_errors_say_what_to_do(stand_in: StandInTailscale, said: str, advice: str) -> None:
    stand_in.misbehave(said)
    with pytest.raises(TailscaleError, match=advice):
        on(stand_in).open()


def test_a_command_that_hangs_is_ended(stand_in: StandInTailscale) -> None:
    stand_in.misbehave("hang")
    with pytest.raises(TailscaleError, match=r"did not end within 0\.2 s"):
        on(stand_in, timeout=0.2).exposure()


def test_a_command_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(TailscaleError, match=r"install Tailscale, or set extensions\.gate\.command"):
        Tailscale(str(tmp_path / "none"), "funnel", 443, PATH, PROXY, 1).exposure()


@pytest.mark.skipif(shutil.which("tailscale") is None, reason="there is no tailscale on PATH")
@pytest.mark.parametrize("mode", ["funnel", "serve"])
def test_the_real_command_takes_the_same_options(tmp_path: Path, mode: str) -> None:
    """It gets as far as looking for its daemon, which is told it is elsewhere: nothing on this machine is changed."""
    program = tmp_path / "tailscale"
    program.write_text(f'#!/bin/sh\nexec {shutil.which("tailscale")} --socket={tmp_path}/none "$@"\n')
    program.chmod(0o755)
    real = Tailscale(str(program), mode, 443, PATH, PROXY, 20)
    for arguments in (
        ("serve", "status", "--json"),
        (mode, "--bg", "--https=443", f"--set-path={PATH}", PROXY),
        ("serve", "--https=443", f"--set-path={PATH}", "off"),
    ):
        with pytest.raises(TailscaleError, match="start it: `sudo systemctl start tailscaled`"):
            real._run(*arguments)
