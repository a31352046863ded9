"""An exporter and a receiver for the Observability Hub."""
