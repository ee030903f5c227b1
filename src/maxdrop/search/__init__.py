"""Layer 2: from sensitivities to the fastest candidate within the limit."""
