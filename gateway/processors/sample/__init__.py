"""Keeps a part of all traces and logs."""
