"""Leaves records out by conditions."""
