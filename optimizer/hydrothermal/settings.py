"""What can be set for training a hydrothermal policy; apart, so that its help does not wait for torch."""

from typing import Final, Literal

import msgspec

STEPS_KEPT: Final = 26
"""Inflows that a request may bring where nothing asks for more: half a year of weeks."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say which case is trained for, over which horizon, and how long.

    Attributes:
        case: folder of the case, of HydroPowerModels or of msppy.
        stages: stages of the horizon, of which the last asks for the final volumes.
        stage_hours: hours of a stage; never guessed, and it must agree with what the case's files say.
        load_scale: what every load is multiplied by.
        initial_storage: fraction of the largest volume that every reservoir starts with, in [0, 1]; none: as the files
            say.
        cpu_minutes: CPU-minutes after which training ends; none: `steps` alone end it.
        steps: steps after which training ends; only a run that ends by them repeats bit for bit.
        batch_size: paths of a step.
        late_batch_size: the same in the second half, where noise is what keeps the cost up.
        learning_rate: of Adam; it falls along half a cosine.
        width: units of a hidden layer.
        encoder: what the policy is told of the inflows so far, beside the water: none, a window of the last ones, or a
            recurrent summary of all that a request brings; auto: none where inflows are independent, else recurrent.
        history: inflows of the window; none: 1. With the encoder auto it asks for a window, and 0 for none.
        encoder_width: units of the recurrent summary.
        steps_kept: inflows that a request may bring, at least `history`; none: 26 or `history`, and for a recurrent
            summary the whole horizon.
        check_every: steps between two looks at the held-out paths.
        held_out: paths that are looked at and never trained on.
        seed: of first weights and paths.
        device: auto (a GPU where there is one), cpu, cuda or cuda:N.
        threads: of torch on the CPU; bits repeat only for one number.
        resume: keep a checkpoint beside the artifact's folder and continue from the one that is there.
    """

    case: str
    stages: int
    stage_hours: float
    load_scale: float = 1.0
    initial_storage: float | None = None
    cpu_minutes: float | None = None
    steps: int = 20_000
    batch_size: int = 24
    late_batch_size: int = 128
    learning_rate: float = 0.03
    width: int = 64
    encoder: Literal["auto", "none", "window", "recurrent"] = "auto"
    history: int | None = None
    encoder_width: int = 32
    steps_kept: int | None = None
    check_every: int = 100
    held_out: int = 120
    seed: int = 0
    device: str = "auto"
    threads: int = 1
    resume: bool = False

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch_size": 1, "late_batch_size": 1, "width": 1, "check_every": 1, "held_out": 1}
        least |= {"seed": 0, "threads": 1, "encoder_width": 1, "stages": 1}
        for name, low in least.items():
            found = getattr(self, name)
            if found < low:
                raise ValueError(f"{name} must be at least {low}, found {found}")
        if self.cpu_minutes is not None and not self.cpu_minutes > 0:
            raise ValueError(f"cpu_minutes must be above 0, found {self.cpu_minutes}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, found {self.learning_rate}")
        self._check_encoder()

    def _check_encoder(self) -> None:
        kind, history, kept = self.encoder, self.history, self.steps_kept
        if kept is not None and kept < 1:
            raise ValueError(f"steps_kept must be at least 1, found {kept}")
        if history is None:
            return
        if kind in ("none", "recurrent"):
            raise ValueError(f"history must be left out with encoder {kind}, which has no window; found {history}")
        least = 1 if kind == "window" else 0
        if not least <= history <= (history if kept is None else kept):
            most = "" if kept is None else f" and at most steps_kept ({kept})"
            raise ValueError(f"history must be at least {least}{most} with encoder {kind}, found {history}")
