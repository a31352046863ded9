"""What Tailscale says is exposed, and whether that is the webhook and nothing else."""

from __future__ import annotations

import json

import pytest

from gateway.extensions.gate.exposure import Exposure, read
from tests.support.tailscale import NAME, PATH, entry

PROXY = f"http://127.0.0.1:8085{PATH}"


def found(config: object, port: int = 443) -> Exposure:
    return read(json.dumps(config), port, PATH)


@pytest.mark.parametrize("nothing", [None, {}, {"TCP": None, "Web": None}, entry(PROXY, port=8443)])
def test_nothing_is_exposed(nothing: object) -> None:
    assert found(nothing) == Exposure()


def test_the_webhook_alone_on_the_internet() -> None:
    exposure = found(entry(PROXY))
    assert exposure == Exposure(PATH, PROXY, f"https://{NAME}{PATH}", (), funnel=True)
    assert exposure.is_exactly("funnel", PROXY)
    assert not exposure.is_exactly("serve", PROXY)
    assert not exposure.is_exactly("funnel", "http://127.0.0.1:9999/elsewhere")


def test_the_webhook_alone_in_the_tailnet_on_another_port() -> None:
    exposure = found(entry(PROXY, port=8443, funnel=False), 8443)
    assert exposure.url == f"https://{NAME}:8443{PATH}"
    assert exposure.is_exactly("serve", PROXY)
    assert not exposure.is_exactly("funnel", PROXY)


def test_another_entry_of_the_port_is_in_the_way_of_funnel_but_not_of_serve() -> None:
    config = entry("http://127.0.0.1:3000", path="/", funnel=False)
    exposure = found(config)
    assert exposure.mount is None
    assert exposure.others == (f"/ on {NAME}:443",)
    assert "would expose to the internet" in str(exposure.obstacle("funnel", 443))
    assert exposure.obstacle("serve", 443) is None


def test_funnel_of_somebody_else_is_in_the_way_of_serve_which_would_turn_it_off() -> None:
    assert "would be turned off" in str(found(entry("http://127.0.0.1:3000", path="/own")).obstacle("serve", 443))


def test_serve_may_turn_off_the_funnel_of_the_webhook_unless_others_need_it() -> None:
    config = entry(PROXY)
    assert found(config).obstacle("serve", 443) is None
    config["Web"][f"{NAME}:443"]["Handlers"]["/"] = {"Proxy": "http://127.0.0.1:3000"}
    assert "would be turned off" in str(found(config).obstacle("serve", 443))


def test_the_webhook_beside_something_public_is_not_what_should_be() -> None:
    config = entry(PROXY)
    config["Web"][f"{NAME}:443"]["Handlers"]["/"] = {"Proxy": "http://127.0.0.1:3000"}
    assert not found(config).is_exactly("funnel", PROXY)


def test_a_forwarded_port_and_what_runs_in_the_foreground_are_others() -> None:
    assert found({"TCP": {"443": {"TCPForward": "127.0.0.1:22"}}}).others == ("TCP to 127.0.0.1:22",)
    exposure = found({"Foreground": {"a1b2": entry(PROXY)}})
    assert exposure.mount is None
    assert exposure.others == (f"{PATH} on {NAME}:443",)
    assert exposure.funnel


def test_an_entry_that_was_made_with_a_slash_is_the_gates_as_well() -> None:
    assert found(entry(PROXY, path=PATH + "/")).mount == PATH + "/"


@pytest.mark.parametrize("garbage", ["", "No serve config", "[]", '{"Web": 7}'])
def test_what_is_no_status_is_not_taken_for_nothing(garbage: str) -> None:
    with pytest.raises(ValueError, match="not the JSON status"):
        read(garbage, 443, PATH)
