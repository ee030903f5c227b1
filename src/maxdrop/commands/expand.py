"""Options that are declared once, as the fields of a dataclass, and used by several commands.

```python
@dataclass(frozen=True)
class Quantization:
    panel: ClassVar[str] = "Quantization"                                    # heading in --help
    preset: Annotated[Preset | None, typer.Option(help="...")] = None        # --preset

@expand
def quantize(model: Model, quantization: Quantization) -> None: ...          # maxdrop quantize MODEL --preset ...
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_type_hints


def expand(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer takes it: a parameter whose type is a dataclass becomes one option for each field."""
    parameters = signature(command, eval_str=True).parameters.values()
    groups: dict[str, Any] = {p.name: p.annotation for p in parameters if is_dataclass(p.annotation)}
    flat: list[Parameter] = []
    for parameter in parameters:
        if parameter.name in groups:
            flat.extend(_options(groups[parameter.name]))
        else:
            flat.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))

    @wraps(command)
    def flattened(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    flattened.__signature__ = Signature(flat)  # type: ignore[attr-defined]
    return flattened


def _options(group: Any) -> Iterator[Parameter]:
    """The fields of a dataclass as parameters, under its heading."""
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        option = copy(hints[field.name].__metadata__[0])
        option.rich_help_panel = group.panel
        annotation: Any = Annotated[hints[field.name].__origin__, option]
        default = Parameter.empty if field.default is MISSING else field.default
        yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
