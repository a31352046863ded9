"""An exporter, a receiver and a processor for the Observability Hub."""
