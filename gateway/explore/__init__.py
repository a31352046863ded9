"""Reading telemetry at a terminal: logs, traces and metrics, from the store and from Loki.

Nothing here knows the command line or a particular exporter: `gateway.cli` hands in where to read and prints what
comes back. Modules that read (``store``, ``loki``, ``traces``, ``metrics``) know nothing of how it looks; those that
draw (``log_lines``, ``waterfall``, ``charts``, ``units``) know nothing of where it comes from.
"""
