"""The commands of `maxdrop`, one to a file; frameworks are imported only when a command runs."""
