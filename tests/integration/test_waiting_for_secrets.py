"""A hub whose secrets are in an OpenBao that cannot answer yet: it waits, for unsealing is a person's work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.cli.processes import Hubs, config_text, hubs, obs_hub
from tests.support.databases import Database
from tests.support.openbao import StandIn, stand_in


@pytest.fixture
def bao(native_database: Database) -> Iterator[StandIn]:
    with stand_in() as running:
        running.secrets["hub/database"] = {"dsn": native_database.dsn}
        running.roles["gateway"] = "known"
        yield running


@pytest.fixture
def started() -> Iterator[Hubs]:
    with hubs(forked=True) as each:
        yield each


CONFIG = config_text(timescale={"dsn": "${bao:hub/database#dsn}"})


def test_a_hub_waits_until_openbao_is_unsealed(bao: StandIn, started: Hubs) -> None:
    bao.sealed = True
    hub = started.start(CONFIG, BAO_ADDR=bao.address, BAO_TOKEN=bao.root_token)
    hub.until(lambda: "is sealed; unseal it" in hub.stderr)
    bao.sealed = False
    hub.until_ready()
    assert hub.stop() == 0


def test_a_hub_waits_for_a_secret_id_to_be_replaced_without_locking_its_role_out(bao: StandIn, started: Hubs) -> None:
    file = started.folder / "secret-id"
    file.write_text("ended")
    hub = started.start(CONFIG, BAO_ADDR=bao.address, BAO_ROLE_ID="gateway", BAO_SECRET_ID_FILE=str(file))
    hub.until(lambda: "tried again in" in hub.stderr)
    assert bao.refusals == 1
    file.write_text("known")
    hub.until_ready()
    assert hub.stop() == 0


def test_commands_do_not_wait(bao: StandIn, started: Hubs) -> None:
    bao.sealed = True
    (started.folder / "hub.yaml").write_text(CONFIG)
    environment = {"BAO_ADDR": bao.address, "BAO_TOKEN": bao.root_token}
    result = obs_hub("config", "check", "-c", started.folder / "hub.yaml", **environment)
    assert result.returncode == 1
    assert "is sealed; unseal it by `bao operator unseal`" in result.stderr
