"""Layer 1: pure functions from graph, policy and statistics to a plan."""
