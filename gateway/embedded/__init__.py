"""The embedded PostgreSQL: the store of a hub that was given no other, kept in its data directory."""

from gateway.embedded._binaries import binaries, server_version
from gateway.embedded.errors import EmbeddedPostgresError
from gateway.embedded.server import EmbeddedPostgres, Step

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "Step", "binaries", "server_version"]
