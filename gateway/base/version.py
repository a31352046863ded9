"""The version that emitters tell of themselves, as that of their instrumentation scope."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("observability-hub")
except PackageNotFoundError:  # a source tree that was never installed
    VERSION = "0.0.0"
