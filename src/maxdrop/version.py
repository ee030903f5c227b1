"""The version of this package, from its installed metadata."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("maxdrop")
except PackageNotFoundError:  # a source tree that was never installed
    VERSION = "0.0.0"
