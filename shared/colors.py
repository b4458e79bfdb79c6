"""How well two colours can be told apart: the contrast ratio of WCAG 2.2, for what a policy may choose."""

LEAST_CONTRAST = 4.5  # of text and its ground, level AA (success criterion 1.4.3)


def contrast(one: str, other: str) -> float:
    """From 1 (the same) to 21 (black and white), for colours written "#rrggbb"."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: str) -> float:
    red, green, blue = (_linear(int(color[at : at + 2], 16) / 255) for at in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)
