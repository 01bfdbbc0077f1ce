"""The handwritten digits that come with scikit-learn, in the shape of MNIST.

In: nothing, no download. Out: an `ImageDataset`. Invariant: the same split for the same seed.
Source: https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html
"""

from __future__ import annotations

import numpy as np

from tgrad.data.dataset import ImageDataset
from tgrad.errors import DataError

IMAGE_SIZE = 28
INK_SIZE = 24
TRAIN_COUNT = 1500


def load_digits(seed: int = 0) -> ImageDataset:
    """1,797 digits: 1,500 to train on, 297 to test on.

    The 8x8 originals are scaled to 24x24 and centred in 28x28, as wide as MNIST's digits are with
    their margin.

    Args:
        seed: of the shuffle that decides the split.

    Raises:
        DataError: scikit-learn is not installed.

    >>> digits = load_digits()
    >>> digits.train_images.shape, digits.test_labels.shape
    ((1500, 1, 28, 28), (297,))
    """
    try:
        from sklearn import datasets
    except ImportError:
        raise DataError(
            "The digits data set comes with scikit-learn, which is not installed.",
            "pip install scikit-learn",
        ) from None
    bunch = datasets.load_digits()
    ink = resize_bilinear(bunch.images.astype(np.float32) / 16, INK_SIZE)
    margin = (IMAGE_SIZE - INK_SIZE) // 2
    images = np.pad(ink, ((0, 0), (margin, margin), (margin, margin)))[:, None]
    labels = bunch.target.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(images))
    train, test = order[:TRAIN_COUNT], order[TRAIN_COUNT:]
    return ImageDataset(images[train], labels[train], images[test], labels[test])


def resize_bilinear(images: np.ndarray, size: int) -> np.ndarray:
    """Square images [N, n, n] scaled to [N, size, size], corners on corners.

    Each axis is a matrix product: out[i, j] = sum over k, l of W[i, k] * W[j, l] * image[k, l].

    >>> resize_bilinear(np.array([[[0, 2], [4, 6]]], np.float32), 3)[0].tolist()
    [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0], [4.0, 5.0, 6.0]]
    """
    count = images.shape[1]
    position = np.linspace(0, count - 1, size)
    below = np.minimum(position.astype(np.int64), count - 2)
    part = (position - below).astype(np.float32)
    rows = np.arange(size)
    weights = np.zeros((size, count), np.float32)
    weights[rows, below] = 1 - part
    weights[rows, below + 1] = part
    return weights @ images @ weights.T
