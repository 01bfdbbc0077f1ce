"""What every image data set is.

In: nothing. Out: `ImageDataset`. Invariant: as many labels as images, in either part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class ImageDataset:
    """Labelled grey images, split into what is trained on and what is held out.

    Attributes:
        train_images, test_images: float32 [N, 1, 28, 28] in 0..1, ink is 1.
        train_labels, test_labels: int64 [N], the digit.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
