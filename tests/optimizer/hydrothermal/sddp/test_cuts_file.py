import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.hydrothermal.sddp.cuts_file import CutsMissing, CutsRefused, read_cuts, write_cuts
from optimizer.hydrothermal.sddp.noise import remembering_noise
from optimizer.hydrothermal.sddp.policy import CutPolicy
from optimizer.hydrothermal.sddp.train import Trainer
from tests.helpers.remembering import remembering_process
from tests.helpers.small_case import small_stage
from tests.helpers.trainers import few_choices, train, trained


def test_what_is_read_is_to_the_bit_what_was_written(tmp_path: Path) -> None:
    cuts = trained().costs_to_go()
    write_cuts(tmp_path / "deep" / "cuts.json", cuts)
    read = read_cuts(tmp_path / "deep" / "cuts.json", stages=4, reservoirs=4)
    for one, other in zip(cuts, read, strict=True):
        for name in ("value", "slope", "state", "intercept"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
    noise = few_choices(stages=4)
    paths = noise.paths(noise.draw(4, generator=np.random.default_rng(1)))
    first, again = (CutPolicy(small_stage(), cuts=made).simulate(paths) for made in (cuts, read))
    assert first.costs.tobytes() == again.costs.tobytes()


def test_inflows_as_states_are_read_as_they_were_written(tmp_path: Path) -> None:
    trainer = Trainer(small_stage(), noise=remembering_noise(remembering_process(), stages=3, choices=3, seed=1))
    train(trainer, 4)
    write_cuts(tmp_path / "cuts.json", trainer.costs_to_go())
    read = read_cuts(tmp_path / "cuts.json", stages=3, reservoirs=4)
    assert all(one.has_memory for one in read)
    assert read[0].slope.tobytes() == trainer.costs_to_go()[0].slope.tobytes()


def test_the_file_has_the_schema_of_sddp_jl_and_its_intercept_is_the_height_at_the_state(tmp_path: Path) -> None:
    cuts = trained().costs_to_go()
    write_cuts(tmp_path / "cuts.json", cuts)
    nodes = json.loads((tmp_path / "cuts.json").read_text())
    assert [node["node"] for node in nodes] == ["1", "2", "3", "4"]
    assert set(nodes[0]) == {"node", "single_cuts", "multi_cuts", "risk_set_cuts"}
    cut = nodes[0]["single_cuts"][0]
    assert set(cut) == {"intercept", "coefficients", "state"}
    assert set(cut["coefficients"]) == set(cut["state"]) == {f"reservoir[{at}]" for at in (1, 2, 3, 4)}
    state = np.array([cut["state"][f"reservoir[{at}]"] for at in (1, 2, 3, 4)])
    at_state = cuts[0].intercept[0] + cuts[0].slope[0] @ state
    assert cut["intercept"] == pytest.approx(at_state, rel=1e-12)


def _write(path: Path, cut: dict[str, Any], **node: Any) -> Path:
    path.write_text(json.dumps([{"node": "1", "single_cuts": [cut], **node}]))
    return path


def test_a_cut_without_state_was_made_at_the_origin(tmp_path: Path) -> None:
    path = _write(tmp_path / "cuts.json", {"intercept": 7.0, "coefficients": {"reservoir[2]": -1.5}})
    found = read_cuts(path, stages=2, reservoirs=2)
    assert found[0].evaluate(np.array([[9.0, 2.0]])).tolist() == [4.0]
    assert found[1].value.size == 0


@pytest.mark.parametrize(
    ("cut", "node", "stages", "said"),
    [
        ({"intercept": 1.0, "coefficients": {"lake": 1.0}}, {}, 2, "cut 1: expected the states .* found lake"),
        ({"intercept": 1.0, "coefficients": {"reservoir[3]": 1.0}}, {}, 2, r"found reservoir\[3\]"),
        ({"intercept": 1.0, "coefficients": {}}, {"node": "5"}, 2, "unknown: 5, missing: 1"),
        ({"intercept": 1.0, "coefficients": {}}, {}, 3, "unknown: none, missing: 2"),
        ({"intercept": 1.0, "coefficients": {}}, {"multi_cuts": [{"realization": 1}]}, 2, "single cuts alone"),
        ({"coefficients": {}}, {}, 2, "schema of SDDP.jl.*intercept"),
    ],
)
def test_what_is_no_cut_of_this_case_and_horizon_is_refused(
    tmp_path: Path, cut: dict[str, Any], node: dict[str, Any], stages: int, said: str
) -> None:
    path = _write(tmp_path / "cuts.json", cut, **node)
    with pytest.raises(CutsRefused, match=said) as caught:
        read_cuts(path, stages=stages, reservoirs=2)
    assert caught.value.exit_code == 3


def test_a_file_that_is_not_there_or_cannot_be_written_is_a_usage_problem(tmp_path: Path) -> None:
    with pytest.raises(CutsMissing, match="found none") as caught:
        read_cuts(tmp_path / "none.json", stages=2, reservoirs=2)
    assert caught.value.exit_code == 2
    (tmp_path / "file").write_text("")
    with pytest.raises(CutsMissing, match="cannot write cuts"):
        write_cuts(tmp_path / "file" / "cuts.json", ())
