"""The Observability Hub: an OpenTelemetry-native telemetry gateway."""

__version__: str
"""The version that is installed. Looked up when it is asked for: that loads much for a line of text."""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("observability-hub")
    except PackageNotFoundError:  # a source tree that was never installed
        found = "0.0.0"
    globals()[name] = found
    return found
