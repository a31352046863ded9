"""Telemetry drawn in a terminal: log lines, waterfalls and charts. Nothing here knows where it is read."""
