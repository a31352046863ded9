"""Backups of the store: one file made by ``pg_dump``, and a store made anew from it by ``pg_restore``.

============ =====================================================================
`tools`      the two programs: which ones fit a server, and running them
`archive`    a file that ``pg_dump`` made: its name, what is in it
`dump`       making one, so that what bears its name is complete
`restore`    making a store from one, in an empty database or beside the old one
============ =====================================================================
"""


class BackupError(Exception):
    """A backup or a restore is not possible, or failed. The message says why, and what to do."""
