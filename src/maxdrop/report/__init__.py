"""One self-contained page about a search, made from what lies in its folder and never from a model."""
