"""Layer 0: frozen, versioned data that every other layer speaks. No framework is imported here."""
