"""MobileNetV3-Large from the table of its paper (Howard et al. 2019), since `transformers` has none."""

from typing import Any

# kernel, expansion, output, squeeze-excite, hard-swish, stride
_BLOCKS = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)


def mobilenet_v3_large() -> Any:
    """The network with the weights that torch draws."""
    from torch import nn

    layers: list[Any] = [_convolution(nn, 3, 16, 3, 2, nn.Hardswish())]
    width = 16
    for kernel, expansion, output, excite, swish, stride in _BLOCKS:
        act = nn.Hardswish() if swish else nn.ReLU()
        layers.append(_block(nn, width, kernel, expansion, output, excite, act, stride))
        width = output
    layers += [_convolution(nn, width, 960, 1, 1, nn.Hardswish()), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    layers += [nn.Linear(960, 1280), nn.Hardswish(), nn.Linear(1280, 1000)]
    return nn.Sequential(*layers)


def _block(nn: Any, width: int, kernel: int, expansion: int, output: int, excite: bool, act: Any, stride: int) -> Any:
    parts = [] if expansion == width else [_convolution(nn, width, expansion, 1, 1, act)]
    parts.append(_convolution(nn, expansion, expansion, kernel, stride, act, groups=expansion))
    if excite:
        parts.append(_scaled(nn, expansion))
    parts.append(_convolution(nn, expansion, output, 1, 1, nn.Identity()))
    body = nn.Sequential(*parts)
    return _residual(nn, body) if stride == 1 and width == output else body


def _convolution(nn: Any, width: int, output: int, kernel: int, stride: int, act: Any, groups: int = 1) -> Any:
    convolution = nn.Conv2d(width, output, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(output), act)


def _scaled(nn: Any, width: int) -> Any:
    squeezed = width // 4
    gate = nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(width, squeezed, 1),
        nn.ReLU(),
        nn.Conv2d(squeezed, width, 1),
        nn.Hardsigmoid(),
    )
    return _combined(nn, gate, lambda x, y: x * y)


def _residual(nn: Any, body: Any) -> Any:
    return _combined(nn, body, lambda x, y: x + y)


def _combined(nn: Any, body: Any, combine: Any) -> Any:
    class Combined(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: Any) -> Any:
            return combine(x, self.body(x))

    return Combined()
