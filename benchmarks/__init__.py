"""Runs maxdrop and its peers on the same work, in turn, on the same machine.

`python -m benchmarks --help` tells how.
"""
