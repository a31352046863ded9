"""What to write instead of what the OpenTelemetry Collector has and this gateway has not.

Source of the names: the Collector's own documentation of its components, core and contrib.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.config.errors import Place

PAGE = "docs/from-the-collector.md"

_IN_FRONT = f"run Alloy or a Collector in front of the gateway for it, which sends on as OTLP ({PAGE})"
_BEHIND = f"send to it by 'otlp' if it takes OTLP, or through a Collector behind the gateway that does ({PAGE})"
_OTLP = "write 'otlp', which sends over gRPC; with 'protocol: http/protobuf' over HTTP"
_WATCH = "leave it out; `obs-hub logs --follow`, `obs-hub traces` and `obs-hub metrics` show what comes in"

_TYPES: Mapping[str, Mapping[str, str]] = {
    "receivers": {
        "otlp_grpc": "write 'otlp' with 'protocols: {grpc: }'",
        "otlp_http": "write 'otlp' with 'protocols: {http: }'",
        "prometheus": (
            "scrape by Alloy's prometheus.scrape in front of the gateway, which sends on as OTLP (docs/alloy.md)"
        ),
        "filelog": (
            "read files by Alloy's loki.source.file in front of the gateway, which sends on as OTLP (docs/alloy.md)"
        ),
        "mongodb": (
            f"its metrics need {_IN_FRONT.removeprefix('run ')}; documents become events by the extension 'pipelines'"
        ),
        "docker_stats": "the receiver 'hostmetrics' has containers: its scraper 'container' (docs/host-metrics.md)",
        "podman_stats": "the receiver 'hostmetrics' has containers: its scraper 'container' (docs/host-metrics.md)",
        "otlpjsonfile": "replay files by POST to /v1/logs, /v1/metrics and /v1/traces of the receiver 'otlp'",
    }
    | dict.fromkeys(
        [
            *("active_directory_ds", "apache", "awscloudwatch", "carbon", "cloudfoundry", "collectd"),
            *("elasticsearch", "fluentforward", "googlecloudpubsub", "haproxy", "httpcheck", "influxdb", "jaeger"),
            *("jmx", "k8s_cluster", "k8s_events", "k8sobjects", "kafka", "kafkametrics", "kubeletstats", "loki"),
            *("memcached", "mysql", "nginx", "nop", "opencensus", "postgresql", "prometheus_simple"),
            *("rabbitmq", "receiver_creator", "redis", "snmp", "splunk_hec", "sqlquery", "sqlserver", "statsd"),
            *("syslog", "tcplog", "udplog", "vcenter", "webhookevent", "windowseventlog", "windowsperfcounters"),
            *("zipkin", "zookeeper"),
        ],
        f"the gateway takes OTLP alone; {_IN_FRONT}",
    ),
    "processors": {
        "batch": "leave it out: batches are built in; what arrives while a commit is under way goes with the next",
        "memory_limiter": "leave it out: it is built in; 'service.delivery.max_in_flight' is its bound",
        "resourcedetection": "leave it out: SDKs, Alloy and the gateway's own receivers name their host themselves",
        "cumulativetodelta": "leave it out: the store keeps both, and rates are made when it is read",
        "deltatocumulative": "leave it out: the store keeps both, and rates are made when it is read",
        "redaction": "write 'redact' (docs/processors.md)",
        "probabilistic_sampler": "write 'sample' with 'ratio: 0.1' for 'sampling_percentage: 10' (docs/processors.md)",
        "logdedup": "write 'limit', which lets so many records a second through of each service (docs/processors.md)",
        "transform": (
            "write 'attributes', 'resource', 'filter' or 'redact', or a function of your own by 'python' "
            "(docs/processors.md)"
        ),
    }
    | dict.fromkeys(
        [
            *("coralogix", "deltatorate", "geoip", "groupbyattrs", "groupbytrace", "interval", "isolationforest"),
            *("k8sattributes", "metricsgeneration", "metricstarttime", "metricstransform", "remotetap", "schema"),
            *("span", "sumologic", "tail_sampling", "unroll"),
        ],
        f"the gateway has none like it; {_IN_FRONT}",
    ),
    "exporters": {
        "otlphttp": _OTLP,
        "otlp_http": _OTLP,
        "otlp_grpc": "write 'otlp'",
        "otelarrow": "write 'otlp'",
        "debug": _WATCH,
        "logging": _WATCH,
        "nop": "leave it out",
        "file": (
            "leave it out; `obs-hub db backup` writes the store into a file, and `obs-hub query --csv` a part of it"
        ),
        "prometheus": f"leave it out: Grafana and SQL read the store (docs/grafana.md); or {_BEHIND}",
        "prometheusremotewrite": (
            f"Prometheus takes OTLP at /api/v1/otlp: write 'otlp' with 'protocol: http/protobuf' ({PAGE})"
        ),
        "jaeger": "Jaeger takes OTLP: write 'otlp' with its port 4317",
        "zipkin": _BEHIND,
        "tempo": "Tempo takes OTLP: write 'otlp/tempo' with its port 4317",
        "postgresql": "the store in PostgreSQL is the exporter 'timescale'",
    }
    | dict.fromkeys(
        [
            *("alertmanager", "awscloudwatchlogs", "awss3", "awsxray", "azuremonitor", "cassandra", "clickhouse"),
            *("coralogix", "datadog", "elasticsearch", "googlecloud", "influxdb", "kafka", "loadbalancing", "logzio"),
            *("mezmo", "opensearch", "pulsar", "rabbitmq", "sentry", "signalfx", "splunk_hec", "syslog"),
        ],
        _BEHIND,
    ),
    "extensions": {
        "health_check": (
            "leave it out: the extension 'api' answers at GET /api/v1/health and GET /api/v1/ready (docs/api.md)"
        ),
        "healthcheckv2": (
            "leave it out: the extension 'api' answers at GET /api/v1/health and GET /api/v1/ready (docs/api.md)"
        ),
        "pprof": "leave it out; `obs-hub doctor` and the page of the extension 'api' show how the gateway does",
        "zpages": "leave it out; `obs-hub doctor` and the page of the extension 'api' show how the gateway does",
        "memory_ballast": "leave it out: 'service.delivery.max_in_flight' bounds the memory",
        "memory_limiter": "leave it out: 'service.delivery.max_in_flight' bounds the memory",
        "file_storage": "leave it out: spools and places are kept in the data directory (--data-dir)",
        "bearertokenauth": (
            "a listener asks for tokens by the extension 'tokens'; an exporter presents one in its 'headers'"
        ),
        "basicauth": "a listener asks for tokens by the extension 'tokens'; the exporter 'loki' has 'basic_auth'",
        "oidc": "a listener asks for tokens by the extension 'tokens', or for client certificates",
        "oauth2client": "an exporter presents a token in its 'headers'",
        "headers_setter": "an exporter sends the 'headers' of its own settings",
        "opamp": f"leave it out; {PAGE} says what takes its place",
    },
}
"""Types of components, by their section."""

_ANY_CONNECTOR = f"the gateway has none; {_IN_FRONT}"
_CONNECTORS: Mapping[str, str] = {
    "spanmetrics": "leave it out: SQL on the view 'spans' has rates, errors and durations (docs/store.md)",
    "servicegraph": "leave it out: SQL on the view 'spans' has who calls whom (docs/store.md)",
    "count": "leave it out: SQL on the views counts",
    "forward": "leave it out: a pipeline names all of its receivers and exporters, and each may be in several",
    "routing": "write a pipeline for each way, such as 'logs' and 'logs/audit', with a 'filter' in each",
}

_NO_QUEUE = (
    "write 'spool': batches that a destination does not take wait on disk, up to 'spool.max_size'; nothing that was "
    "acknowledged waits in memory alone"
)
_URL = "the endpoint says it: http:// is plain text, https:// is TLS; leave it out"
_SETTINGS: Mapping[tuple[str, ...], str] = {
    ("exporters", "*", "sending_queue"): _NO_QUEUE,
    ("exporters", "*", "batcher"): "leave it out: batches are built in",
    ("exporters", "*", "retry_on_failure", "enabled"): "leave it out: what fails is always tried again",
    ("exporters", "*", "retry_on_failure", "max_elapsed_time"): (
        "write 'spool: {max_age: …}' beside 'retry_on_failure': how long a batch waits on disk; without, as long as it "
        "takes"
    ),
    ("exporters", "*", "tls", "insecure"): _URL,
    ("exporters", "*", "tls", "insecure_skip_verify"): (
        "certificates are always checked; name the CA of the destination's by 'ca_file'"
    ),
    ("exporters", "*", "auth"): "present a token in 'headers', such as 'authorization: Bearer ${env:TOKEN}'",
    ("exporters", "otlp", "encoding"): "leave it out: OTLP is sent as protobuf",
    ("exporters", "otlp", "traces_endpoint"): "write 'endpoint', to which /v1/traces is added",
    ("exporters", "otlp", "metrics_endpoint"): "write 'endpoint', to which /v1/metrics is added",
    ("exporters", "otlp", "logs_endpoint"): "write 'endpoint', to which /v1/logs is added",
    ("exporters", "*", "keepalive"): "leave it out",
    ("exporters", "*", "wait_for_ready"): "leave it out: the spool keeps what the destination does not take",
    ("exporters", "*", "balancer_name"): "leave it out",
    ("exporters", "*", "read_buffer_size"): "leave it out",
    ("exporters", "*", "write_buffer_size"): "leave it out",
    ("receivers", "otlp", "protocols", "*", "transport"): "leave it out: listeners speak TCP",
    ("receivers", "otlp", "protocols", "*", "include_metadata"): "leave it out: headers of clients are not passed on",
    ("receivers", "otlp", "protocols", "*", "keepalive"): "leave it out",
    ("receivers", "otlp", "protocols", "*", "read_buffer_size"): "leave it out",
    ("receivers", "otlp", "protocols", "*", "write_buffer_size"): "leave it out",
    ("receivers", "otlp", "protocols", "*", "compression_algorithms"): "leave it out: all of them are taken",
    ("receivers", "otlp", "protocols", "*", "max_recv_msg_size_mib"): "write 'max_recv_msg_size: 64MiB'",
    ("receivers", "otlp", "protocols", "http", "traces_url_path"): "leave it out: it is /v1/traces, as clients expect",
    ("receivers", "otlp", "protocols", "http", "metrics_url_path"): (
        "leave it out: it is /v1/metrics, as clients expect"
    ),
    ("receivers", "otlp", "protocols", "http", "logs_url_path"): "leave it out: it is /v1/logs, as clients expect",
    ("receivers", "otlp", "protocols", "*", "tls", "ca_file"): (
        "write 'client_ca_file': of whom clients' certificates are"
    ),
    ("receivers", "hostmetrics", "initial_delay"): "leave it out",
    ("receivers", "hostmetrics", "root_path"): "leave it out",
    ("receivers", "hostmetrics", "scrapers", "process", "include"): "write 'include_names', a list of patterns",
    ("receivers", "hostmetrics", "scrapers", "process", "exclude"): "write 'exclude_names', a list of patterns",
    ("receivers", "hostmetrics", "scrapers", "process", "mute_process_name_error"): (
        "leave it out: what may not be read is left out"
    ),
    ("receivers", "hostmetrics", "scrapers", "process", "mute_process_all_errors"): (
        "leave it out: what may not be read is left out"
    ),
    ("receivers", "hostmetrics", "scrapers", "process", "scrape_process_delay"): (
        "leave it out: a process is reported once it has lived through a collection"
    ),
    ("receivers", "journald", "storage"): "leave it out: its place is kept in the data directory",
    ("receivers", "journald", "operators"): "leave it out: fields become attributes as docs/journal.md says",
    ("processors", "filter", "*"): (
        "write conditions under 'drop' and 'keep', such as 'drop: [severity < warn]' (docs/processors.md)"
    ),
    ("processors", "attributes", "include"): "write a condition under 'where' (docs/processors.md)",
    ("processors", "attributes", "exclude"): "write a condition under 'where', with 'not' before it",
    ("processors", "resource", "actions"): "write 'attributes', as the Collector does",
    ("service", "telemetry", "metrics", "level"): "write 'enabled' and 'interval'",
    ("service", "telemetry", "metrics", "address"): (
        "leave it out: the gateway sends its metrics as OTLP, to itself or to 'service.telemetry.endpoint'"
    ),
    ("service", "telemetry", "metrics", "readers"): (
        "write 'endpoint' below 'telemetry': where the gateway sends its own telemetry"
    ),
    ("service", "telemetry", "traces", "processors"): (
        "write 'endpoint' below 'telemetry': where the gateway sends its own telemetry"
    ),
    ("service", "telemetry", "logs", "processors"): (
        "write 'endpoint' below 'telemetry': where the gateway sends its own telemetry"
    ),
    ("service", "telemetry", "traces", "propagators"): "leave it out: it is W3C Trace Context",
    ("service", "telemetry", "logs", "encoding"): "write 'format'",
    ("service", "telemetry", "logs", "output_paths"): "leave it out: the log is written to standard error",
    ("service", "telemetry", "resource"): "leave it out",
}
"""Settings, by where they stand. The second step is the type of a component; ``*`` is any."""


def component(section: str, its_type: str) -> str | None:
    """Return what to write instead of a component of the Collector's, or None where it is no such."""
    return _TYPES.get(section, {}).get(its_type)


def connector(its_type: str) -> str:
    """Return what to do without a connector."""
    return _CONNECTORS.get(its_type, _ANY_CONNECTOR)


def setting(place: Place) -> str | None:
    """Return what to write instead of a setting of the Collector's, or None where it is no such."""
    steps = [str(step) for step in place]
    if len(steps) > 1:
        steps[1] = steps[1].partition("/")[0]
    for pattern, advice in _SETTINGS.items():
        if len(pattern) == len(steps) and all(
            wanted in ("*", step) for wanted, step in zip(pattern, steps, strict=True)
        ):
            return advice
    return None
