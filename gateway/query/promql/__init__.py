"""PromQL, the language of Prometheus, over any `gateway.query.series.Querier`."""
