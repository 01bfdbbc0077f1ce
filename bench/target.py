"""Training to a target: seconds and steps until a model is good enough.

In: data sets, peers. Out: `Reached`s. Invariant: all peers start from the same weights and see the
same batches in the same order, with the same optimizer; they take turns, a few steps each; only
training counts, the first step and its compilation included, evaluation does not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import models
from bench.case import SEED, Arrays, Case, StepCase
from bench.models import GPTSizes
from bench.process import PeerFailure, PeerSpec, Process
from bench.steps import classification_loss
from bench.tables import DASH, Table, seconds_text
from bench.worker import save_inputs

Report = Callable[[str], None]

TEXT = GPTSizes(65, 64, 128, 4, 4)
TEXT_BATCH, TEXT_HELD = 12, 100
"""Windows of a batch, and of the part held out."""
IMAGES_BATCH = 50


@dataclass(frozen=True)
class Task:
    """What is learned, and until when.

    Attributes:
        case: model, loss and optimizer.
        data: from the folder of data sets: inputs, targets, order [steps, batch], and what is held
            out. Raises FileNotFoundError where the data is not there.
        measure: "accuracy" or "loss" of what is held out.
        goal: at least so much accuracy, or at most so much loss.
        every: steps between two looks.
        size: of a batch of evaluation; it divides what is held out.
    """

    case: StepCase
    data: Callable[[Path], Arrays]
    measure: str
    goal: float
    every: int
    size: int

    def is_reached(self, value: float) -> bool:
        return value >= self.goal if self.measure == "accuracy" else value <= self.goal


@dataclass(frozen=True)
class Reached:
    """A peer at the end of a task.

    Attributes:
        title, peer: what and who.
        goal: in words.
        seconds: of training; None where the goal was not reached.
        steps: done.
        value: of the measure at the end.
        reason: why there is no time.
    """

    title: str
    peer: str
    goal: str
    seconds: float | None
    steps: int
    value: float | None
    reason: str = ""


def mnist_data(folder: Path, epochs: int = 6) -> Arrays:
    """The 10,000 digits of mnist-10k: 9,000 to learn from, 1,000 held out."""
    from tgrad.data import load_mnist

    path = folder / "mnist-10k"
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not there")
    digits = load_mnist(path)
    count, random = len(digits.train_images), np.random.default_rng(SEED)
    order = np.concatenate(
        [random.permutation(count)[: count // IMAGES_BATCH * IMAGES_BATCH] for _ in range(epochs)]
    )
    return {
        "inputs": digits.train_images,
        "targets": digits.train_labels.astype(np.int64),
        "order": order.reshape(-1, IMAGES_BATCH),
        "held_inputs": digits.test_images,
        "held_targets": digits.test_labels.astype(np.int64),
    }


def text_data(folder: Path, steps: int = 6000) -> Arrays:
    """Windows of tinyshakespeare: the last tenth of the text is held out."""
    path = folder / "tinyshakespeare.txt"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there")
    letters = np.frombuffer(path.read_bytes(), np.uint8)
    tokens = np.unique(letters, return_inverse=True)[1].astype(np.int64)
    edge = len(tokens) * 9 // 10
    random = np.random.default_rng(SEED)
    length = TEXT.context
    held = _windows(tokens[edge:], random.integers(0, len(tokens) - edge - length - 1, TEXT_HELD))
    learned = _windows(tokens[:edge], random.integers(0, edge - length - 1, steps * TEXT_BATCH))
    return {
        "inputs": learned[:, :-1],
        "targets": learned[:, 1:],
        "order": np.arange(len(learned)).reshape(steps, TEXT_BATCH),
        "held_inputs": held[:, :-1],
        "held_targets": held[:, 1:],
    }


def _windows(tokens: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """A context and the token after it from each start: [starts, context + 1]."""
    windows: np.ndarray = np.lib.stride_tricks.sliding_window_view(tokens, TEXT.context + 1)[starts]
    return windows


def _adam(optim: Any, parameters: Any, **options: Any) -> Any:
    return optim.Adam(parameters, lr=1e-3, **options)


def _adamw(optim: Any, parameters: Any, **options: Any) -> Any:
    return optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, **options)


def _case(key: str, title: str, model: Any, optimizer: Any) -> StepCase:
    def nothing(random: np.random.Generator) -> Arrays:
        return {}

    return StepCase(key, title, nothing, model, optimizer, classification_loss)


TASKS: tuple[Task, ...] = (
    Task(
        _case("target_mnist", "the MNIST convnet on 9,000 digits, batch 50", models.convnet, _adam),
        mnist_data, "accuracy", 0.98, every=30, size=100,
    ),
    Task(
        _case("target_text", "a character GPT, 4 layers x 128, on tinyshakespeare, batch 12 x 64",
              partial(models.gpt, sizes=TEXT), _adamw),
        text_data, "loss", 1.9, every=100, size=TEXT_HELD,
    ),
)  # fmt: skip


def cases(sizes: str = "full") -> list[Case]:
    """The models, for a worker; there is one size."""
    return [task.case for task in TASKS]


def run_task(
    task: Task,
    folder: Path,
    peers: Sequence[PeerSpec],
    cores: int,
    report: Report,
    table: str = "bench.target",
) -> list[Reached]:
    """Train with every peer until it has reached the goal, or the order ends."""
    with tempfile.TemporaryDirectory(prefix="tgrad-bench-") as place:
        state, data = Path(place) / "state.npz", Path(place) / "data.npz"
        arrays = task.data(folder)
        save_inputs(state, task.case.arrays())
        save_inputs(data, arrays)
        total = len(arrays["order"])
        runs = [_Run(task, spec, cores) for spec in peers]
        try:
            for run in runs:
                run.open(table, state, data)
            while any(run.is_open for run in runs):
                for run in runs:
                    run.advance(total)
                values = ", ".join(f"{r.spec.name} {r.value}" for r in runs if r.value is not None)
                report(f"{task.case.key} after {max(r.steps for r in runs)} steps: {values}")
        finally:
            for run in runs:
                run.stop()
        return [run.reached() for run in runs]


class _Run:
    """A peer on its way to the goal."""

    def __init__(self, task: Task, spec: PeerSpec, cores: int):
        self.task, self.spec = task, spec
        self.seconds, self.steps = 0.0, 0
        self.value: float | None = None
        self.reason = ""
        self.is_open = False
        self.process: Process | None = None
        try:
            self.process = Process(spec, "cpu", cores)
        except PeerFailure as failure:
            self.reason = str(failure)

    def open(self, table: str, state: Path, data: Path) -> None:
        """Give it model and data."""
        if self.process is None:
            return
        try:
            self.process.ask(
                "train_open", table=table, sizes="full", key=self.task.case.key,
                state=str(state), data=str(data),
            )  # fmt: skip
            self.is_open = True
        except PeerFailure as failure:
            self.reason = str(failure)

    def advance(self, total: int) -> None:
        """Some steps and a look."""
        if not self.is_open or self.process is None:
            return
        count = min(self.task.every, total - self.steps)
        try:
            answer = self.process.ask("train", first=self.steps, count=count)
            self.seconds += answer["seconds"]
            self.steps += count
            scores = self.process.ask("evaluate", size=self.task.size)
        except PeerFailure as failure:
            self.reason, self.is_open = str(failure), False
            return
        value = float(scores[self.task.measure])
        self.value = value
        if self.task.is_reached(value):
            self.is_open = False
        elif self.steps >= total:
            self.reason, self.is_open = f"not reached in {total} steps", False

    def stop(self) -> None:
        """End its process."""
        if self.process is not None:
            self.process.stop()

    def reached(self) -> Reached:
        """How it ended."""
        sign = "≥" if self.task.measure == "accuracy" else "≤"
        return Reached(
            self.task.case.title,
            self.spec.name,
            f"{self.task.measure} {sign} {self.task.goal}",
            None if self.reason else self.seconds,
            self.steps,
            self.value,
            self.reason,
        )


def table_of(found: Sequence[Reached]) -> Table:
    """A row a task and peer."""
    rows = [
        (
            f"{r.title}: {r.peer}",
            r.goal,
            seconds_text(r.seconds),
            str(r.steps),
            DASH if r.value is None else f"{r.value:.4f}",
        )
        for r in found
    ]
    notes = [
        "same initial weights, order of the data and optimizer; seconds of training alone, the "
        "first step and its compilation included",
        *(f"{r.peer}, {r.title}: {r.reason}" for r in found if r.reason),
    ]
    header = ("trained", "until", "s", "steps", "reached")
    return Table("training to a target", header, tuple(rows), tuple(notes))
