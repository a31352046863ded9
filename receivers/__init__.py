"""Everything that brings telemetry in. Each receiver is one package; none imports another."""
