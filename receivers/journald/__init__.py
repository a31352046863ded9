"""The logs of this machine's services, from the systemd journal, sent as OTLP.

Like host metrics this is an emitter: it hands what it makes to the pipelines of the gateway that runs it, or sends it
to a configurable endpoint, such as Alloy.

``config`` is what a user may set, ``factory`` what the assembly calls, ``run`` what the command line calls.
``journalctl`` runs that program, ``reader`` makes batches of what it prints, ``records`` (with ``conventions``,
``message`` and ``values``) makes OTLP of an entry, ``state`` remembers how far all this has come, ``sender`` sends,
``emitter`` is the loop around them.
"""
