"""Lets only so many records a second through of each service."""
