"""Sessions with PostgreSQL: the one place of the hub, its commands and its components that connects to a server.

============= ========================================================================================
`options`     what a connection string's ``options`` say, for servers and poolers that refuse them
`session`     what every session is pinned to, whatever server, database, role and environment say
`connection`  connecting, directly and through a pooler such as PgBouncer
`server`      what of a server harms the store, for ``obs-hub doctor``
============= ========================================================================================
"""

from gateway.store.postgres import server
from gateway.store.postgres.connection import (
    AsyncConnection,
    Connection,
    break_off,
    broken_off_after,
    connect,
    connect_async,
)
from gateway.store.postgres.session import UnusableServerError, plan, program_options, with_pooler

__all__ = [
    "AsyncConnection",
    "Connection",
    "UnusableServerError",
    "break_off",
    "broken_off_after",
    "connect",
    "connect_async",
    "plan",
    "program_options",
    "server",
    "with_pooler",
]
