"""Takes out of telemetry what is not for everybody who reads it."""
