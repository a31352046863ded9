"""The HTTP API of Prometheus over the store, without HTTP: parameters in, answers out.

============== ===============================================================
`parameters`   what a request asks for, read as Prometheus reads it
`encoding`     results as JSON, a piece at a time
`syntax`       queries as text and as a tree, for ``format_query`` and ``parse_query``
`exemplars`    measurements behind samples
`answers`      each endpoint
============== ===============================================================

Source: Prometheus documentation, "HTTP API", and where it says nothing, what Prometheus 3 answers.
"""
