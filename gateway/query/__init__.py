"""Reading the store with query languages: one layer that reads, and the languages over it.

``series`` is what the two agree on: a language asks a `Querier` for series by label matchers, and gets arrays.
``promql`` is the language of Prometheus. Nothing here knows the command line, a page or a particular exporter.
"""
