"""Pipelines: what applications wrote into a database, read now and then and sent as events.

``config`` is what a user may set; ``service`` asks for runs when there is something to read, and does them; ``run`` is
one run; ``routes`` is what the API front serves. How documents are read and sent is a source's, such as
`receivers.mongodb`, which is found by the entry points ``obs_hub.sources``.
"""
