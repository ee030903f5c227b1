"""Folders to write to."""

from __future__ import annotations

from pathlib import Path

from maxdrop.errors import ValidationError


def check_folder(name: str, folder: Path) -> None:
    """Refuse a folder that cannot be made, before any work is done for it.

    Args:
        name: of the argument, for the message.
        folder: that will be written to.

    Raises:
        ValidationError: a file is in the way.
    """
    inside = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if inside.exists() and not inside.is_dir():
        message = f"`{name}` must be a folder, or one that can be made, but {inside} is a file; give another path"
        raise ValidationError(message)
