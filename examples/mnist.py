"""Train a convnet to read handwritten digits, and save it.

    python examples/mnist.py                        scikit-learn's digits, no download
    python examples/mnist.py --data mnist           MNIST, downloaded if TGRAD_DATA has it not
    python examples/mnist.py --plot digits.png      and a picture of what the model says

Written as one writes PyTorch; only the import lines differ.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

import tgrad
import tgrad.nn.functional as F
from tgrad import nn, optim
from tgrad.data import ImageDataset, load_digits, load_mnist
from tgrad.errors import DataError
from tgrad.settings import settings

EVAL_BATCH = 100


def make_model() -> nn.Module:
    """Images [N, 1, 28, 28] in, the logits of ten digits [N, 10] out."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5),
        nn.ReLU(),
        nn.Conv2d(32, 32, 5),
        nn.ReLU(),
        nn.BatchNorm2d(32),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.BatchNorm2d(64),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(576, 10),
    )


def iterate_batches(count: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Endless batches of indices: each epoch in a new order, less what does not fill a batch."""
    random = np.random.default_rng(seed)
    while True:
        order = random.permutation(count)
        for start in range(0, count - batch_size + 1, batch_size):
            yield order[start : start + batch_size]


def train(model: nn.Module, data: ImageDataset, args: argparse.Namespace) -> None:
    """Adam; the learning rate drops to a tenth for the last third of the steps."""
    # In float16 the squares of small gradients vanish: a larger eps keeps the steps bounded.
    eps = 1e-4 if args.dtype == "float16" else 1e-8
    optimizer = optim.Adam(model.parameters(), lr=args.lr, eps=eps)
    batches = iterate_batches(len(data.train_images), args.batch_size, args.seed)
    model.train()
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, "{task.fields[status]}") as progress:
        task = progress.add_task("training", total=args.steps, status="compiling")
        start = time.perf_counter()
        for step, batch in zip(range(args.steps), batches):
            if step == args.steps * 2 // 3:
                for group in optimizer.param_groups:
                    group["lr"] = args.lr / 10
            images = tgrad.tensor(data.train_images[batch], dtype=args.type, device=args.device)
            labels = tgrad.tensor(data.train_labels[batch], device=args.device)
            loss = F.cross_entropy(model(images).float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            value = loss.item()
            if step == 0:
                first = time.perf_counter()  # the rate leaves out the first step, which compiles
                status = f"loss {value:.4f}"
            else:
                rate = step * args.batch_size / (time.perf_counter() - first)
                status = f"loss {value:.4f}, {rate:,.0f} images/s"
            progress.update(task, advance=1, status=status)
    print(f"first step {first - start:.1f} s, all {args.steps} {time.perf_counter() - start:.1f} s")


def predict(model: nn.Module, images: np.ndarray, args: argparse.Namespace) -> np.ndarray:
    """The digit [N] of each image [N, 1, 28, 28]."""
    size = min(EVAL_BATCH, len(images))
    digits = []
    model.eval()
    with tgrad.no_grad():
        for start in range(0, len(images), size):
            # Batches of one size share one plan: the last is filled up with the first images.
            batch = images[np.arange(start, start + size) % len(images)]
            logits = model(tgrad.tensor(batch, dtype=args.type, device=args.device))
            digits.append(logits.argmax(1).numpy())
    return np.concatenate(digits)[: len(images)]


def plot_predictions(path: Path, images: np.ndarray, labels: np.ndarray, said: np.ndarray) -> None:
    """A picture of 32 test images and what the model says; mistakes first, in red."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    order = np.argsort(said == labels, kind="stable")
    figure, axes = plt.subplots(4, 8, figsize=(8, 4.6))
    for axis in axes.flat:
        axis.axis("off")
    for axis, i in zip(axes.flat, order):
        wrong = said[i] != labels[i]
        axis.imshow(images[i, 0], cmap="gray_r", vmin=0, vmax=1)
        title = f"{said[i]}, is {labels[i]}" if wrong else str(said[i])
        axis.set_title(title, fontsize=10, color="firebrick" if wrong else "black")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a convnet on handwritten digits.")
    add = parser.add_argument
    add("--data", default="digits", help="digits, mnist, or a directory of idx files")
    add("--device", default=settings.device, help="cpu, cuda, ...")
    add("--epochs", type=int, help="8 for digits, 3 for MNIST")
    add("--steps", type=int, help="in place of --epochs")
    add("--batch-size", type=int, default=50)
    add("--lr", type=float, default=1e-3)
    add("--seed", type=int, default=0)
    add("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    add("--save", type=Path, default=Path("mnist.safetensors"), metavar="PATH")
    add("--plot", type=Path, metavar="FILE", help="a picture of sample predictions")
    args = parser.parse_args(argv)
    for name in ("epochs", "steps", "batch_size"):
        if (value := getattr(args, name)) is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} {value}: must be at least 1")
    args.type = getattr(tgrad, args.dtype)
    return args


def load_data(name: str) -> ImageDataset:
    if name == "digits":
        return load_digits()
    return load_mnist(None if name == "mnist" else name)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_arguments(argv)
    try:
        data = load_data(args.data)
    except DataError as error:
        sys.exit(f"mnist.py: {error}")
    count = len(data.train_images)
    if args.batch_size > count:
        sys.exit(f"mnist.py: --batch-size {args.batch_size}: there are {count} images to train on")
    if args.steps is None:
        epochs = args.epochs or (8 if args.data == "digits" else 3)
        args.steps = epochs * (count // args.batch_size)

    tgrad.manual_seed(args.seed)
    model = make_model().to(args.device).to(args.type)
    train(model, data, args)

    said = predict(model, data.test_images, args)
    print(f"test accuracy: {100 * np.mean(said == data.test_labels):.2f}%")
    tgrad.save(model.state_dict(), args.save)
    print(f"saved {args.save}")
    if args.plot:
        plot_predictions(args.plot, data.test_images, data.test_labels, said)
        print(f"saved {args.plot}")


if __name__ == "__main__":
    main()
