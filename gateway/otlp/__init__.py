"""OTLP on the wire: its services, its messages read no deeper than needed, bounds on what they hold."""
