"""The OTLP receiver: traces, metrics and logs over gRPC and HTTP, as the OTLP 1.x specification describes them.

``config`` is what a user may set, ``factory`` what the assembly calls. Payloads pass through as bytes; the one format
that is ever decoded here is OTLP/JSON, which ``otlp_json`` turns into protobuf.
"""
