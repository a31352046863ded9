"""Logs, of the store and of Loki alike: what is asked for, where it is read, and several sources as one stream."""
