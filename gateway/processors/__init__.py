"""Processors: what stands between receivers and exporters, each a folder with its settings, its factory and its work.

What several of them need is in `gateway.processors.common`.
"""
