"""The benchmark: the gateway under OTLP load, beside a bare COPY of the same rows. Run it with ``make bench``.

A *load* (`loads`) is a signal over a protocol in requests of one size. The gateway runs as people run it (`subject`),
the load comes from a process of its own (`loader`), made of *payloads* that are cheap to vary (`payloads`). The *limit*
(`limit`) is what the same database takes of the same rows from a plain connection. `measure` puts them side by side,
and `report` shows them.
"""
