"""Labelled images of text, rendered with the fonts that matplotlib ships: synthetic, and said to be so."""

import string
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Array = np.ndarray[Any, Any]

_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSansMono",
)
_ALPHABETS = (
    string.ascii_lowercase,
    string.ascii_uppercase,
    string.digits,
    string.ascii_letters + string.digits,
)


def random_text(random: np.random.Generator, longest: int = 14) -> str:
    """Letters and digits without meaning, of one alphabet."""
    alphabet = _ALPHABETS[random.integers(len(_ALPHABETS))]
    return "".join(random.choice(list(alphabet), random.integers(4, longest + 1)))


def text_image(random: np.random.Generator, text: str, size: int | None = None) -> Image.Image:
    """One line of dark text on a light ground, or the reverse, cropped to the text with a small margin."""
    font = _font(str(random.choice(_FONTS)), size or int(random.integers(14, 40)))
    left, top, right, bottom = font.getbbox(text)
    margin = int(random.integers(2, 6))
    extent = (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin)
    dark, light = int(random.integers(0, 110)), int(random.integers(140, 256))
    ink, ground = (dark, light) if random.random() < 0.7 else (light, dark)
    image = Image.new("L", extent, ground)
    ImageDraw.Draw(image).text((margin - left, margin - top), text, fill=ink, font=font)
    return image


def degrade(random: np.random.Generator, image: Image.Image, strength: float) -> Image.Image:
    """A small rotation, blur, loss of resolution and noise, so that the task is not too easy."""
    ground = image.getpixel((0, 0))
    image = image.rotate(random.normal(0, 1.5 * strength), Image.Resampling.BILINEAR, fillcolor=ground)
    if random.random() < 0.5:
        factor = random.uniform(1.0, 1.0 + strength)
        small = (max(8, int(image.width / factor)), max(8, int(image.height / factor)))
        image = image.resize(small, Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BILINEAR)
    image = image.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.2 * strength)))
    pixels = np.asarray(image, np.float32) + random.normal(0, random.uniform(0, 25 * strength), image.size[::-1])
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def planes(image: Image.Image, mean: Array | float, spread: Array | float) -> Array:
    """A grey image as three equal planes, NCHW: (x / 255 - mean) / spread."""
    pixels = np.repeat(np.asarray(image, np.float32)[..., None], 3, axis=2) / 255
    scaled = (pixels - np.asarray(mean, np.float32)) / np.asarray(spread, np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


@lru_cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", size)
