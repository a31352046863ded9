"""Listeners and clients: addresses, certificates, HTTP serving, and OTLP to another endpoint."""
