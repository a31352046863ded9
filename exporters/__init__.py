"""Everything that takes telemetry out. Each exporter is one package; none imports another."""
