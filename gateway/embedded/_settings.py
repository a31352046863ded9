"""The server's own settings: a small machine, much written, and nothing lost."""

from __future__ import annotations

FILE_NAME = "obs-hub.conf"
ACCESS_FILE_NAME = "obs-hub.hba.conf"
HOST = "127.0.0.1"
"""Where the server listens, if it listens at all: never where another machine could reach it."""

SETTINGS = {
    # Memory: modest, the gateway's machine has other things to do.
    "shared_buffers": "128MB",
    "work_mem": "16MB",  # of which a query joins frames of many series by their sets
    "maintenance_work_mem": "64MB",
    "max_connections": "50",
    "max_locks_per_transaction": "256",  # a query over a long time locks many partitions
    # What is acknowledged is on disk.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Telemetry is written all the time: few, spread checkpoints, and less to write for each page.
    "wal_compression": "on",
    "min_wal_size": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "max_wal_senders": "4",  # for pg_basebackup
    # Statements are short, or wait for the disk; compiling them costs more than it saves.
    "jit": "off",
    # Facts are only ever inserted, so statistics and freezing matter, dead rows hardly.
    "autovacuum": "on",
    "autovacuum_max_workers": "2",
    "autovacuum_naptime": "1min",
    "autovacuum_vacuum_cost_limit": "1000",
    # The log: files of a bounded size, of which the newest are kept (see `_logs`).
    "logging_collector": "on",
    "log_destination": "stderr",
    "log_file_mode": "0600",
    "log_filename": "postgresql-%Y%m%d-%H%M%S.log",
    "log_rotation_size": "10MB",
    "log_rotation_age": "0",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "unix_socket_permissions": "0700",
}


def file_text(log_folder: str) -> str:
    """Write the settings as a file that postgresql.conf includes. The log's folder is relative to the data's."""
    settings = {**SETTINGS, "log_directory": log_folder}
    lines = [f"{name} = {_quoted(value)}" for name, value in settings.items()]
    head = "# Written by obs-hub at each start. To change a setting, add it to postgresql.conf below the include.\n"
    return head + "\n".join(lines) + "\n"


def access_text(database: str, writer: str, readers: str) -> str:
    """Write who may log in where a port is open, as PostgreSQL's ``pg_hba.conf``.

    Over TCP these are members of the role of readers, by a password that does not cross the wire; the writer, who needs
    no password at the socket, never.
    """
    return (
        "# Written by obs-hub at each start.\n"
        "local all all trust\n"  # the socket's directory is the guard
        f"host all {writer} all reject\n"
        f"host {database} +{readers} {HOST}/32 scram-sha-256\n"
        "host all all all reject\n"
    )


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
