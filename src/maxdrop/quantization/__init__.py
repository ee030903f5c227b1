"""The submodules under which NNCF keeps its options, for scripts that import from there."""
