"""A function of yours as a processor.

.. code-block:: python

    from gateway.processors.python import LogRecord

    def without_debug_headers(record: LogRecord) -> bool | None:
        record.attributes.pop("http.request.header.x-debug", None)
        return record.severity_number >= 9  # False leaves it out

``docs/processors.md`` says more.
"""

from gateway.processors.python.records import DataPoint, LogRecord, Record, Span

__all__ = ["DataPoint", "LogRecord", "Record", "Span"]
