"""Metrics as lines over time, for the page: read as arrays, with the SQL and the PromQL that say the same.

`selection` finds series, `buckets` reads their values in equal intervals, `lines` groups them, `texts` writes what a
reader can take along.
"""
