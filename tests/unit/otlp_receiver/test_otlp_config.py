"""The receiver's settings read like the Collector's."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.net.http_bodies import Bodies
from gateway.net.listeners import join_endpoint, split_endpoint
from receivers.otlp.config import OtlpReceiverConfig


def read(**settings: Any) -> OtlpReceiverConfig:
    return OtlpReceiverConfig.model_validate(settings)


def test_without_settings_both_protocols_listen_on_loopback() -> None:
    protocols = read().protocols
    assert protocols.grpc is not None
    assert protocols.http is not None
    assert (protocols.grpc.endpoint, protocols.http.endpoint) == ("127.0.0.1:4317", "127.0.0.1:4318")
    assert protocols.http.cors is None


def test_a_protocol_that_is_not_named_is_not_served() -> None:
    assert read(protocols={"http": {}}).protocols.grpc is None
    assert read(protocols={"grpc": {}}).protocols.http is None


def test_a_protocol_named_without_settings_is_served_with_its_defaults() -> None:
    """As in the Collector: ``protocols: {grpc: , http: }``."""
    assert read(protocols={"grpc": None, "http": None}) == read()


def test_serving_nothing_is_an_error() -> None:
    with pytest.raises(ValidationError, match="at least one of grpc and http"):
        read(protocols={})


def test_settings_survive_being_written_and_read() -> None:
    for config in (
        read(),
        read(protocols={"grpc": {"endpoint": "[::]:1", "insecure": True}}),
        read(protocols={"http": None}),
    ):
        assert OtlpReceiverConfig.model_validate_json(config.model_dump_json()) == config


def test_requests_may_be_as_large_as_the_specification_recommends() -> None:
    """Within the bound over all bodies at once, which has room for several of them."""
    protocols = read().protocols
    assert protocols.grpc is not None
    assert protocols.http is not None
    assert protocols.grpc.max_recv_msg_size == protocols.http.max_request_body_size == 64 * 2**20
    assert Bodies().most >= 2 * protocols.http.max_request_body_size


def test_sizes_have_units() -> None:
    protocols = read(
        protocols={"grpc": {"max_recv_msg_size": "4MiB"}, "http": {"max_request_body_size": "500KB"}}
    ).protocols
    assert protocols.grpc is not None
    assert protocols.http is not None
    assert protocols.grpc.max_recv_msg_size == 4 * 2**20
    assert protocols.http.max_request_body_size == 500_000


@pytest.mark.parametrize("size", [0, -1, "2GiB", "many"])
def test_a_size_that_makes_no_sense_is_an_error(size: Any) -> None:
    with pytest.raises(ValidationError, match="max_recv_msg_size"):
        read(protocols={"grpc": {"max_recv_msg_size": size}})


@pytest.mark.parametrize(
    ("endpoint", "parts"),
    [
        ("127.0.0.1:4317", ("127.0.0.1", 4317)),
        ("otel.example.com:0", ("otel.example.com", 0)),
        ("[::1]:4317", ("::1", 4317)),
        (":4317", ("", 4317)),
    ],
)
def test_endpoints(endpoint: str, parts: tuple[str, int]) -> None:
    assert split_endpoint(endpoint) == parts
    assert join_endpoint(*parts) == endpoint


@pytest.mark.parametrize(
    "endpoint", ["", "4317", "localhost", "localhost:", "::1:4317", "host:65536", "host:-1", "h:²"]
)
def test_an_endpoint_that_is_not_host_and_port_is_an_error(endpoint: str) -> None:
    with pytest.raises(ValidationError, match="expected host:port such as"):
        read(protocols={"grpc": {"endpoint": endpoint}})


def test_unknown_settings_are_errors() -> None:
    with pytest.raises(ValidationError, match="max_recieve"):
        read(protocols={"grpc": {"max_recieve": 1}})


def test_cors_needs_origins() -> None:
    with pytest.raises(ValidationError, match="allowed_origins"):
        read(protocols={"http": {"cors": {"allowed_origins": []}}})
