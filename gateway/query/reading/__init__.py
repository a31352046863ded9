"""Reading the store for query languages.

================ ==========================================================================================
`connection`     connections that may only read, and COPY out of them: bounded, and broken off when need be
`catalogue`      label matchers become series, by the dimensions
`chunks`         samples of several places become one series
`numbers`        samples of gauges and sums, from frames and rows
`distributions`  samples of histograms and summaries
`everything`     labels of stores that are too large to look at each series
`querier`        all of it, as the languages ask for it
================ ==========================================================================================
"""
