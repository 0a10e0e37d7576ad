"""Three classes of 8x8 patterns under noise, made by code: a small net learns them in an epoch or two."""

import numpy as np
from plait.models.images import image_data

CLASSES = 3


def part(count, draw, size=8):
    y = draw.integers(0, CLASSES, count)
    patterns = np.random.default_rng(7).normal(size=(CLASSES, 1, size, size))
    x = patterns[y] + draw.normal(size=(count, 1, size, size)) * 0.7
    return x.astype(np.float32), y.astype(np.int64)


def patterns(fit=97, validation=40, test=50, seed=0, size=8):
    draw = np.random.default_rng(seed)
    return image_data(part(fit, draw, size), part(validation, draw, size), part(test, draw, size), CLASSES)
