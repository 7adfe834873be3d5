import pytest

from optimizer.hydrothermal.settings import Settings


@pytest.mark.parametrize(
    "change", [{"stages": 0}, {"cpu_minutes": 0.0}, {"learning_rate": 0.0}, {"history": 30}, {"threads": 0}]
)
def test_a_setting_out_of_range_is_named(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))} must be"):
        Settings(**{"case": "", "stages": 12, "stage_hours": 168.0, **change})  # type: ignore[arg-type]
