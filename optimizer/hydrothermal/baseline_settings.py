"""What can be set for the baseline of hydrothermal dispatch; apart, so that its help does not wait for Pyomo."""

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say which case is solved, over which horizon.

    Attributes:
        case: folder of the case, of HydroPowerModels or of msppy.
        stages: stages of the horizon, of which the last asks for the final volumes.
        stage_hours: hours of a stage; never guessed, and it must agree with what the case's files say.
        load_scale: what every load is multiplied by.
        initial_storage: fraction of the largest volume that every reservoir starts with, in [0, 1]; none: as the files
            say.
    """

    case: str
    stages: int
    stage_hours: float
    load_scale: float = 1.0
    initial_storage: float | None = None

    def __post_init__(self) -> None:
        if self.stages < 1:
            raise ValueError(f"stages must be at least 1, found {self.stages}")
