"""Secrets from OpenBao: ``${bao:path#key}`` in the configuration, and following them when they are rotated."""
