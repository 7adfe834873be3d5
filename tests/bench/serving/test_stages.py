"""What the stages are measured on."""

from bench.peers.serving.words import BATCH
from bench.serving.stages import renamed


def test_every_turn_asks_under_ids_of_its_own() -> None:
    lines = [b'{"request_id":"bench-%08d"}' % number for number in range(700)]
    asked = renamed(lines, 0) + renamed(lines, 1) + renamed(lines, 2)
    assert asked[:700] == lines
    assert len(set(asked)) == len(asked) == 3 * BATCH
