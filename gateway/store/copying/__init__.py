"""Copying a store into another database: from the embedded PostgreSQL to a server, from one layout to the other.

========== =================================================================================
`tables`   what there is to copy: tables, their columns, and the slices that are copied at once
`source`   keeping a store as it is while it is copied
`target`   what a store that is being made notes of how far it has come
`work`     the copy itself, and the comparison at its end
========== =================================================================================
"""


class CopyError(Exception):
    """A store cannot be copied, or what was copied is not what was there. The message says why, and what to do."""
