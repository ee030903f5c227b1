"""Where the downloaded models and data are: `../shared/zoo` from the repository, or `MAXDROP_ZOO`."""

import os
from pathlib import Path

_DEFAULT = Path(__file__).parents[2] / ".." / "shared" / "zoo"


def zoo(name: str) -> Path:
    """The path of a file of the zoo."""
    path = Path(os.environ.get("MAXDROP_ZOO") or _DEFAULT).resolve() / name
    if not path.exists():
        raise FileNotFoundError(
            f"the benchmark data must be in MAXDROP_ZOO, but {name} is not there; "
            "`python -m benchmarks.make_zoo --help` makes it from public packages"
        )
    return path
