"""For plug-in writers: a numpy toy backend, and the suites that a backend, estimator or strategy must pass."""
