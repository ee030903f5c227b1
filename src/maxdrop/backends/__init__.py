"""Layer 3: one folder for each framework. A backend is chosen once, at load, from the table in `registry`."""
