"""The metrics of the machine this runs on, sent as OTLP.

Unlike the receivers that listen, this one is an emitter: it hands what it makes to the pipelines of the gateway that
runs it, or sends it to a configurable endpoint, such as Alloy.

``config`` is what a user may set, ``factory`` what the assembly calls, ``run`` what the command line calls;
``conventions`` is the table of every metric, ``scrapers`` reads them, ``collector`` makes OTLP of them, ``sender``
sends it.
"""
