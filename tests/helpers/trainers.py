"""Small trainings of SDDP on the small case."""

from optimizer.hydrothermal.sddp.noise import InflowNoise, StageNoise, table_noise
from optimizer.hydrothermal.sddp.train import Iteration, Trainer
from tests.helpers.small_case import small_case, small_stage, table_of


def few_choices(*, stages: int, choices: int = 3) -> InflowNoise:
    """Return the small case's noise with some of its scenarios, so that a tree of them stays small."""
    full = table_noise(table_of(small_case()), stages=stages)
    own = [one.probability[:choices] / one.probability[:choices].sum() for one in full.stages]
    made = [
        StageNoise(constant=one.constant[:choices], gain=None, probability=probability)
        for one, probability in zip(full.stages, own, strict=True)
    ]
    return InflowNoise(stages=tuple(made), has_memory=False)


def train(trainer: Trainer, iterations: int) -> list[Iteration]:
    return [trainer.iterate() for _ in range(iterations)]


def trained(*, stages: int = 4, iterations: int = 8) -> Trainer:
    trainer = Trainer(small_stage(), noise=few_choices(stages=stages))
    train(trainer, iterations)
    return trainer
