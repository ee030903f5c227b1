"""The tasks: one file per family, found through the table in `benchmarks.task`."""
