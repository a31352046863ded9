"""The metrics of the machine this runs on, sent as OTLP.

Unlike the receivers that listen, this one is an emitter: it sends to a configurable endpoint (Alloy where there is one,
the gateway itself otherwise) and hands nothing to the pipeline directly.

``config`` is what a user may set, ``factory`` what the assembly calls, ``run`` what the command line calls;
``conventions`` is the table of every metric, ``scrapers`` reads them, ``collector`` makes OTLP of them, ``sender``
sends it.
"""
