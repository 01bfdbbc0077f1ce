"""Train the convnet of mnist.py in several processes, each with a part of every batch.

    torchrun --nproc-per-node 2 examples/data_parallel.py --device cpu
    torchrun --nproc-per-node 8 examples/data_parallel.py --device cuda

Each process drives one device and computes the gradients of its part; they are averaged while the
rest of backward runs, and every process makes the same step.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import numpy as np
from mnist import iterate_batches, make_model

import tgrad
import tgrad.distributed as dist
import tgrad.nn.functional as F
from tgrad.data import ImageDataset, load_digits
from tgrad.nn.parallel import DistributedDataParallel


def train(model: DistributedDataParallel, data: ImageDataset, args: argparse.Namespace) -> None:
    """Adam, a compiled step; each process takes its share of a batch that all draw alike."""
    optimizer = tgrad.optim.Adam(model.parameters(), lr=1e-3)

    @tgrad.compile
    def step(images: tgrad.Tensor, labels: tgrad.Tensor) -> tgrad.Tensor:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    rank, count = dist.get_rank(), dist.get_world_size()
    batches = iterate_batches(len(data.train_images), args.batch_size, seed=0)
    for number, batch in zip(range(args.steps), batches):
        share = np.array_split(batch, count)[rank]
        images = tgrad.tensor(data.train_images[share], device=args.device)
        loss = step(images, tgrad.tensor(data.train_labels[share], device=args.device))
        if number % 50 == 0:
            dist.all_reduce(loss, dist.ReduceOp.AVG)
            if rank == 0:
                print(f"step {number}: loss {loss.item():.4f}")


def test_accuracy(model: DistributedDataParallel, data: ImageDataset, device: str) -> float:
    """Of all test images; each process reads its share."""
    rank, count = dist.get_rank(), dist.get_world_size()
    images, labels = (np.array_split(a, count)[rank] for a in (data.test_images, data.test_labels))
    model.eval()
    with tgrad.no_grad():
        said = model(tgrad.tensor(images, device=device)).argmax(1)
    right = (said == tgrad.tensor(labels, device=device)).sum()
    dist.all_reduce(right)
    return right.item() / len(data.test_images)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train a convnet in several processes.")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=64, help="of all processes together")
    args = parser.parse_args(argv)
    if args.device == "cuda":
        tgrad.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if args.device == "cuda" else "gloo")

    tgrad.manual_seed(0)
    data = load_digits()
    model = DistributedDataParallel(make_model().to(args.device))
    train(model, data, args)
    accuracy = test_accuracy(model, data, args.device)
    if dist.get_rank() == 0:
        print(f"test accuracy: {100 * accuracy:.2f}%")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
