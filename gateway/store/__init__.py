"""The store: telemetry, runs and webhook deliveries in PostgreSQL or TimescaleDB. What is here is its public face.

The exporter writes it, the commands, the pages and the query languages read it, runs and webhooks keep their state in
it; all of them connect by what is here, and import nothing else of it. A name is loaded when it is first used, so that
a command that needs no database loads no driver.

============================================ ==================================================================
`postgres`                                   connecting to a server, and what every session is pinned to
`connections`                                connections that can be broken off when the process ends
`schema`, `migrations`, `layout`             the tables, brought up to date, and which layout a server allows
`locks`, `turns`                             by which gateways take turns
`maintenance`, `policies`, `partitions`,     what keeps a store in shape: rollups, retention, dimensions without
`collection`, `clock`, `dropped_before`, `jobs`       facts
`seen`, `earlier`                            what is found out about a store of an earlier version, and left of it
`reader`, `login`                            the role that may only read, and logging in as it
`backup`, `copying`, `restore_mark`          backups, restoring them, copying a store into another database, and the
                                             mark on a store that is not whole
`attribute_index`                            the index of attributes of logs and spans, where it is asked for
`settings`                                   the settings of a store
============================================ ==================================================================
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.store.attribute_index import apply as apply_attribute_index
    from gateway.store.backup import BackupError
    from gateway.store.backup.dump import backup as back_up
    from gateway.store.backup.restore import replace as restore_in_place
    from gateway.store.backup.restore import restore
    from gateway.store.binary import HEADER as COPY_HEADER
    from gateway.store.binary import OID_FLOAT8, OID_INT8, POSTGRES_EPOCH_US, array_begin
    from gateway.store.binary import TRAILER as COPY_TRAILER
    from gateway.store.binary_rows import FLOAT8_ITEM, INT8_ITEM, array_items, read_rows
    from gateway.store.connections import Connections
    from gateway.store.copying import CopyError
    from gateway.store.copying.work import Result as CopyResult
    from gateway.store.copying.work import copy as copy_store
    from gateway.store.earlier import Progress, progress
    from gateway.store.jobs import examine as examine_jobs
    from gateway.store.layout import Layout, LayoutError
    from gateway.store.locks import Lock
    from gateway.store.locks import hold as hold_lock
    from gateway.store.login import CONNECTION_LIMIT, LoginError
    from gateway.store.login import reading as reader_login
    from gateway.store.maintenance import Maintenance
    from gateway.store.partitions import Partitions
    from gateway.store.policies import apply as apply_policies
    from gateway.store.policies import summary as describe_retention
    from gateway.store.postgres.connection import AsyncConnection, Connection, break_off, connect, connect_async
    from gateway.store.postgres.dsn import check_dsn
    from gateway.store.postgres.dsn import secrets_of as secrets_of_dsn
    from gateway.store.postgres.dsn import shown as dsn_without_secrets
    from gateway.store.postgres.server import examine as examine_server
    from gateway.store.postgres.session import UnusableServerError
    from gateway.store.reader import PLANNING, READER_ROLE, let_read, views_schema
    from gateway.store.restore_mark import MESSAGE as RESTORE_UNFINISHED
    from gateway.store.schema import SchemaError, migrate
    from gateway.store.schema import Status as SchemaStatus
    from gateway.store.schema import status as schema_status
    from gateway.store.settings import StoreSettings

__all__ = [
    "CONNECTION_LIMIT",
    "COPY_HEADER",
    "COPY_TRAILER",
    "FLOAT8_ITEM",
    "INT8_ITEM",
    "OID_FLOAT8",
    "OID_INT8",
    "PLANNING",
    "POSTGRES_EPOCH_US",
    "READER_ROLE",
    "RESTORE_UNFINISHED",
    "AsyncConnection",
    "BackupError",
    "Connection",
    "Connections",
    "CopyError",
    "CopyResult",
    "Layout",
    "LayoutError",
    "Lock",
    "LoginError",
    "Maintenance",
    "Partitions",
    "Progress",
    "SchemaError",
    "SchemaStatus",
    "StoreSettings",
    "UnusableServerError",
    "apply_attribute_index",
    "apply_policies",
    "array_begin",
    "array_items",
    "back_up",
    "break_off",
    "check_dsn",
    "connect",
    "connect_async",
    "copy_store",
    "describe_retention",
    "dsn_without_secrets",
    "examine_jobs",
    "examine_server",
    "hold_lock",
    "let_read",
    "migrate",
    "progress",
    "read_rows",
    "reader_login",
    "restore",
    "restore_in_place",
    "schema_status",
    "secrets_of_dsn",
    "views_schema",
]

_WHERE = {
    "CONNECTION_LIMIT": "login",
    "COPY_HEADER": "binary:HEADER",
    "COPY_TRAILER": "binary:TRAILER",
    "FLOAT8_ITEM": "binary_rows",
    "INT8_ITEM": "binary_rows",
    "OID_FLOAT8": "binary",
    "OID_INT8": "binary",
    "PLANNING": "reader",
    "POSTGRES_EPOCH_US": "binary",
    "READER_ROLE": "reader",
    "RESTORE_UNFINISHED": "restore_mark:MESSAGE",
    "AsyncConnection": "postgres.connection",
    "BackupError": "backup",
    "Connection": "postgres.connection",
    "Connections": "connections",
    "CopyError": "copying",
    "CopyResult": "copying.work:Result",
    "Layout": "layout",
    "LayoutError": "layout",
    "Lock": "locks",
    "LoginError": "login",
    "Maintenance": "maintenance",
    "Partitions": "partitions",
    "Progress": "earlier",
    "SchemaError": "schema",
    "SchemaStatus": "schema:Status",
    "StoreSettings": "settings",
    "UnusableServerError": "postgres.session",
    "apply_attribute_index": "attribute_index:apply",
    "apply_policies": "policies:apply",
    "array_begin": "binary",
    "array_items": "binary_rows",
    "back_up": "backup.dump:backup",
    "break_off": "postgres.connection",
    "check_dsn": "postgres.dsn",
    "connect": "postgres.connection",
    "connect_async": "postgres.connection",
    "copy_store": "copying.work:copy",
    "describe_retention": "policies:summary",
    "dsn_without_secrets": "postgres.dsn:shown",
    "examine_jobs": "jobs:examine",
    "examine_server": "postgres.server:examine",
    "hold_lock": "locks:hold",
    "let_read": "reader",
    "migrate": "schema",
    "progress": "earlier",
    "read_rows": "binary_rows",
    "reader_login": "login:reading",
    "restore": "backup.restore",
    "restore_in_place": "backup.restore:replace",
    "schema_status": "schema:status",
    "secrets_of_dsn": "postgres.dsn:secrets_of",
    "views_schema": "reader",
}
"""The module of each name, and behind a colon what it is called there where that is another name."""


def __getattr__(name: str) -> Any:
    if (where := _WHERE.get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, other = where.partition(":")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), other or name)
    globals()[name] = value
    return value
