"""Write a log of any length as arrays on disk, in the form of each contender: one seed, the same numbers.

    python -m bench.bandit_arrays FOLDER --rows N --seed S

Dense, as obp takes them: action_dist and estimated_rewards float64 [N, K, 1]. Flat, as a log holds them: p_eval,
q_logged, q_pi float64 [N]. Shared: action int64, reward, pscore float64 [N]; unit uint64 [N], ten rows each.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

ACTIONS: Final = 10
FLOOR: Final = 0.5
"""The logging policy plays uniformly this often, so that no weight exceeds ACTIONS / FLOOR."""

WEIGHT_BOUND: Final = ACTIONS / FLOOR
ROWS_PER_UNIT: Final = 10
_CHUNK_ROWS: Final = 250_000
_SHAPES: Final = {"action_dist": (ACTIONS, 1), "estimated_rewards": (ACTIONS, 1)}
_TYPES: Final = {"action": np.int64, "unit": np.uint64}
FLAT: Final = ("reward", "pscore", "p_eval", "q_logged", "q_pi")
DENSE: Final = ("action_dist", "estimated_rewards")

Array = NDArray[np.float64]


def write_arrays(folder: Path, *, rows: int, seed: int) -> None:
    """Write each array as FOLDER/NAME.npy, a chunk at a time, and the flat ones together as FOLDER/log.npz."""
    names = (*FLAT, *DENSE, "action", "unit")
    files = {
        name: open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=_TYPES.get(name, np.float64), shape=(rows, *_SHAPES.get(name, ()))
        )
        for name in names
    }
    for part, columns in _chunks(rows, np.random.default_rng(seed)):
        for name, values in columns.items():
            files[name][part] = values
    flat: dict[str, Any] = {name: files[name] for name in (*FLAT, "action")}
    np.savez(folder / "log.npz", **flat, position=np.zeros(rows, dtype=np.int64))


def _chunks(rows: int, generator: np.random.Generator) -> Iterator[tuple[slice, dict[str, NDArray[Any]]]]:
    hashes = generator.integers(2**64, size=max(rows // ROWS_PER_UNIT, 1), dtype=np.uint64)
    for first in range(0, rows, _CHUNK_ROWS):
        count = min(_CHUNK_ROWS, rows - first)
        yield slice(first, first + count), _draw(count, generator) | {"unit": generator.choice(hashes, size=count)}


def _draw(count: int, generator: np.random.Generator) -> dict[str, NDArray[Any]]:
    logging = (1 - FLOOR) * _softmax(generator.standard_normal((count, ACTIONS))) + FLOOR / ACTIONS
    target = _softmax(generator.standard_normal((count, ACTIONS)))
    model = generator.random((count, ACTIONS))
    below = logging.cumsum(axis=1) <= generator.random(count)[:, None]
    action = below.sum(axis=1).clip(max=ACTIONS - 1)
    row = np.arange(count)
    return {
        "action": action,
        "reward": (generator.random(count) < model[row, action] ** 2).astype(np.float64),
        "pscore": logging[row, action],
        "action_dist": target[:, :, None],
        "estimated_rewards": model[:, :, None],
        "p_eval": target[row, action],
        "q_logged": model[row, action],
        "q_pi": (target * model).sum(axis=1),
    }


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits)
    result: Array = powers / powers.sum(axis=1, keepdims=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write_arrays(options.folder, rows=options.rows, seed=options.seed)
    print(json.dumps({"rows": options.rows, "seed": options.seed}))


if __name__ == "__main__":
    main()
