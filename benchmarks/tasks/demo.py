"""The model and data that come with maxdrop."""

from benchmarks.task import Split, Task, cached_model, split_items


def task() -> Task:
    """The bundled calibration items; two thirds of the validation items, and the rest held out."""
    from maxdrop import demo

    return Task(
        name="demo",
        metric="accuracy on handwritten digits",
        model=lambda: cached_model("demo", demo.load_model),
        split=_split,
        transform=lambda item: item[0] if isinstance(item, tuple) else item,
        validate=demo.validate,
    )


def _split(seed: int) -> Split:
    from maxdrop import demo

    items = demo.validation_items()
    third = len(items) // 3
    scored = split_items(items, seed, 0, len(items) - third, third)
    return Split(demo.calibration_items(), scored.validation, scored.held_out)
