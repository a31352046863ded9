"""Documents that applications write into MongoDB, sent as OTLP events.

Each is sent, and marked ``processed`` only after the acknowledgement; one that cannot be sent is marked ``failed`` with
the reason. What asks for this, and when, is `gateway.extensions.document_pipelines`.

``config`` is what a user may set, ``factory`` says what it is, ``source`` is what the extension asks. ``collection``
speaks to the server, ``changes`` hears from it; ``mapping`` makes an `Event` of a document, ``transform`` lets a
function of the user's change it, ``values`` and ``records`` make OTLP of that; ``batches`` puts these together,
``sender`` sends a batch and finds what is refused, ``reading`` is the loop around them.
"""

from receivers.mongodb.event import Event

__all__ = ["Event"]
