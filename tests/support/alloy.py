"""Alloy's configuration syntax, as much as is needed to check a file, and what its components are documented to take.

https://grafana.com/docs/alloy/latest/get-started/syntax/ and https://grafana.com/docs/alloy/latest/reference/components/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/)|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)"""
    r"""|(?P<text>"(?:\\.|[^"\\\n])*"|`[^`]*`)|(?P<number>-?\d[\d.]*)|(?P<mark>[{}\[\](),=])""",
    re.DOTALL,
)


@dataclass
class Block:
    """A block: ``name "label" { arguments and blocks }``. Arguments have the tokens of their values."""

    name: str
    label: str = ""
    arguments: dict[str, list[str]] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)

    def all_blocks(self, path: str = "") -> Iterator[tuple[str, Block]]:
        """Yield the blocks within, each with its path such as ``client.tls``."""
        for block in self.blocks:
            where = f"{path}.{block.name}".lstrip(".")
            yield where, block
            yield from block.all_blocks(where)

    def values(self) -> Iterator[str]:
        """Yield the tokens of all values, of blocks within too."""
        for tokens in self.arguments.values():
            yield from tokens
        for block in self.blocks:
            yield from block.values()


class AlloySyntaxError(Exception):
    """The text is no configuration of Alloy."""


def parse(text: str) -> Block:
    """Return a block without a name that holds those of the file. Raises `AlloySyntaxError`."""
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise AlloySyntaxError(f"line {text.count(chr(10), 0, at) + 1}: {text[at : at + 20]!r}")
        if match.lastgroup != "skip":
            tokens.append(match[0])
        at = match.end()
    file = Block("")
    rest = _body(tokens, 0, file)
    if rest != len(tokens):
        raise AlloySyntaxError(f"unexpected {tokens[rest]!r}")
    return file


def _body(tokens: list[str], at: int, into: Block) -> int:
    while at < len(tokens) and tokens[at] != "}":
        name, following = tokens[at], tokens[at + 1]
        if following == "=":
            if name in into.arguments:
                raise AlloySyntaxError(f"{into.name}: {name} is there twice")
            at = _value(tokens, at + 2, into.arguments.setdefault(name, []))
            continue
        block = Block(name)
        at += 1
        if following.startswith('"'):
            block.label = following.strip('"')
            at += 1
        if tokens[at] != "{":
            raise AlloySyntaxError(f"expected {{ after {name}, not {tokens[at]!r}")
        at = _body(tokens, at + 1, block)
        if at >= len(tokens):
            raise AlloySyntaxError(f"{name} does not end")
        into.blocks.append(block)
        at += 1
    return at


def _value(tokens: list[str], at: int, into: list[str]) -> int:
    depth = 0
    while at < len(tokens):
        token = tokens[at]
        depth += (token in "([{") - (token in ")]}")
        into.append(token)
        at += 1
        # A name may be that of a function, which is called.
        if depth == 0 and not (at < len(tokens) and tokens[at] in "([" and token not in ")]}"):
            return at
    raise AlloySyntaxError("a value does not end")


@dataclass(frozen=True)
class Component:
    """What a component takes: arguments by the path of their block, "" being its own, and what it exports.

    ``required`` are paths of blocks, and arguments of its own, that must be there.
    """

    arguments: dict[str, str]
    exports: str = ""
    required: str = ""

    def takes(self, path: str, argument: str) -> bool:
        return argument in self.arguments.get(path, "").split()


_SIGNALS = "metrics logs traces"
_RULE = "source_labels separator regex modulus target_label replacement action"
_TLS = (
    "ca_file ca_pem cert_file cert_pem key_file key_pem server_name min_version max_version insecure "
    "insecure_skip_verify include_system_ca_certs_pool reload_interval cipher_suites"
)
_QUEUE = {
    "sending_queue": "enabled block_on_overflow num_consumers queue_size sizer wait_for_result storage",
    "sending_queue.batch": "flush_timeout min_size max_size sizer",
    "retry_on_failure": ("enabled initial_interval max_interval max_elapsed_time multiplier randomization_factor"),
}
_STATEMENTS = "context statements conditions error_mode"

COMPONENTS = {
    "logging": Component({"": "level format write_to"}),
    "otelcol.receiver.otlp": Component(
        {
            "": "",
            "grpc": "auth endpoint transport max_recv_msg_size max_concurrent_streams include_metadata",
            "http": "auth endpoint max_request_body_size include_metadata compression_algorithms",
            "output": _SIGNALS,
        },
        required="output",
    ),
    "otelcol.receiver.loki": Component({"output": _SIGNALS}, "receiver", "output"),
    "otelcol.receiver.prometheus": Component({"output": _SIGNALS}, "receiver", "output"),
    "otelcol.processor.memory_limiter": Component(
        {
            "": "check_interval limit limit_percentage spike_limit spike_limit_percentage",
            "output": _SIGNALS,
        },
        "input",
        "check_interval output",
    ),
    "otelcol.processor.batch": Component(
        {
            "": "timeout send_batch_size send_batch_max_size metadata_keys metadata_cardinality_limit",
            "output": _SIGNALS,
        },
        "input",
        "output",
    ),
    "otelcol.processor.transform": Component(
        {
            "": "error_mode",
            "log_statements": _STATEMENTS,
            "metric_statements": _STATEMENTS,
            "trace_statements": _STATEMENTS,
            "statements": "log metric trace",
            "output": _SIGNALS,
        },
        "input",
        "output",
    ),
    "otelcol.processor.filter": Component(
        {
            "": "error_mode",
            "log_conditions": "conditions context",
            "metric_conditions": "conditions context",
            "trace_conditions": "conditions context",
            "output": _SIGNALS,
        },
        "input",
        "output",
    ),
    "otelcol.processor.groupbyattrs": Component({"": "keys", "output": _SIGNALS}, "input", "output"),
    "otelcol.processor.k8sattributes": Component(
        {
            "": "auth_type passthrough wait_for_metadata wait_for_metadata_timeout",
            "extract": "metadata otel_annotations deployment_name_from_replicaset",
            "filter": "node namespace",
            "pod_association": "",
            "pod_association.source": "from name",
            "output": _SIGNALS,
        },
        "input",
        "output",
    ),
    "otelcol.auth.bearer": Component({"": "token header scheme"}, "handler", "token"),
    "otelcol.exporter.otlphttp": Component(
        {
            "": "encoding logs_endpoint metrics_endpoint traces_endpoint",
            "client": "endpoint auth compression headers timeout http2_read_idle_timeout",
            "client.tls": _TLS,
            **_QUEUE,
        },
        "input",
        "client",
    ),
    "otelcol.exporter.otlp": Component(
        {
            "": "",
            "client": "endpoint auth authority balancer_name compression headers read_buffer_size write_buffer_size "
            "wait_for_ready",
            "client.tls": _TLS,
            "client.keepalive": "ping_wait ping_response_timeout ping_without_stream",
            **_QUEUE,
        },
        "input",
        "client",
    ),
    "otelcol.exporter.kafka": Component(
        {
            "": "protocol_version brokers client_id timeout partition_metrics_by_resource_attributes "
            "partition_logs_by_resource_attributes partition_traces_by_id topic_from_attribute",
            **dict.fromkeys(("metrics", "logs", "traces"), "encoding topic topic_from_metadata_key"),
            "producer": "compression flush_max_messages max_message_bytes required_acks",
            "tls": _TLS,
            **_QUEUE,
        },
        "input",
        "protocol_version",
    ),
    "otelcol.receiver.kafka": Component(
        {
            "": "brokers protocol_version client_id group_id group_instance_id initial_offset max_fetch_size",
            **dict.fromkeys(("metrics", "logs", "traces"), "encoding topics"),
            "autocommit": "enable interval",
            "message_marking": "after_execution include_unsuccessful",
            "error_backoff": "enabled initial_interval max_interval max_elapsed_time multiplier randomization_factor",
            "tls": _TLS,
            "output": _SIGNALS,
        },
        required="brokers protocol_version output",
    ),
    "loki.source.journal": Component(
        {"": "forward_to format_as_json labels matches max_age path relabel_rules"}, "", "forward_to"
    ),
    "loki.source.kubernetes": Component({"": "targets forward_to"}, "", "targets forward_to"),
    "loki.relabel": Component({"": "forward_to max_cache_size", "rule": _RULE}, "rules receiver", "forward_to"),
    "discovery.kubernetes": Component(
        {"": "role kubeconfig_file bearer_token_file", "selectors": "role field label", "namespaces": "names"},
        "targets",
        "role",
    ),
    "discovery.relabel": Component({"": "targets", "rule": _RULE}, "output rules", "targets"),
    "prometheus.exporter.self": Component({}, "targets"),
    "prometheus.scrape": Component(
        {
            "": "targets forward_to job_name scheme metrics_path scrape_interval scrape_timeout bearer_token_file",
            "tls_config": "ca_file cert_file key_file server_name insecure_skip_verify min_version",
        },
        "",
        "targets forward_to",
    ),
}
"""The components that the configurations use; not all that Alloy has, nor all that these take."""

FUNCTIONS = {"coalesce", "sys.env", "string.format", "constants.hostname"}
"""Of Alloy's standard library, what the configurations use."""
