import math
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from optimizer.logged_bandit.network import uniform_network
from optimizer.training.encoded_log import UnableToLearn, encode_log
from optimizer.training.log_tensors import scale_of, to_tensors
from optimizer.training.logged import (
    AS_LOGGED,
    UNIFORM,
    Learned,
    LearnSettings,
    LearnTask,
    Part,
    learn,
    pessimistic_gain,
)
from optimizer.training.loop import Budget, LoopSettings, start_budget
from optimizer.training.progress import SilentProgress
from tests.helpers.taught_logs import Taught, cluster, market, shop

CPU = torch.device("cpu")
QUICK = LearnSettings(pulls=(0.03,), loop=LoopSettings(epochs=8, batch_size=64, learning_rate=0.03, check_every=None))
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def endless() -> Budget:
    return start_budget(lambda: 0.0, cpu_clock=lambda: 0.0)


def learned_from(
    log: Taught,
    settings: LearnSettings = QUICK,
    *,
    budget: Budget | None = None,
    checkpoints: Path | None = None,
    device: torch.device = CPU,
) -> Learned:
    return learn(
        log.feedback,
        spec=log.spec,
        reward={"click": 1.0},
        make_network=partial(uniform_network, width=16, depth=1),
        settings=settings,
        device=device,
        budget=budget or endless(),
        progress=SilentProgress(),
        checkpoints=checkpoints,
    )


def value_of(learned: Learned, log: Taught) -> float:
    mask = torch.ones((len(log.truth), 1, log.truth.shape[1]), dtype=torch.bool)
    with torch.no_grad():
        p = learned.module(**{name: torch.from_numpy(array) for name, array in log.arrays.items()}, mask=mask)
    return log.value_of(p[:, 0].double().numpy())


def weights_of(learned: Learned) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in learned.module.state_dict().values()]


@pytest.mark.parametrize("objective", ["ips", "dr"])
@pytest.mark.parametrize("skew", [0.0, 1.5], ids=["uniform log", "skewed log"])
def test_a_learned_policy_earns_far_more_than_the_log(objective: str, skew: float) -> None:
    log = shop(1_500, seed=1, skew=skew)
    learned = learned_from(log, msgspec.structs.replace(QUICK, objective=objective))
    # The best policy earns 0.9 where the log earned 0.3 to 0.5; half the way is far more than luck.
    assert value_of(learned, log) > log.logged_value + 0.5 * (0.9 - log.logged_value)
    assert learned.chosen.name == f"{objective} pull 0.03"


@pytest.mark.parametrize("objective", ["ips", "dr"])
def test_a_policy_over_own_rows_learns_to_take_the_cheap_one(objective: str) -> None:
    log = market(1_000, seed=2)
    learned = learned_from(log, msgspec.structs.replace(QUICK, objective=objective))
    assert value_of(learned, log) > 0.65


@pytest.mark.parametrize("is_whole", [False, True], ids=["by choice", "of the whole request"])
def test_many_slots_are_learned_from_either_kind_of_reward(is_whole: bool) -> None:
    log = cluster(1_500, seed=3, is_whole=is_whole)
    assert value_of(learned_from(log), log) > 0.6


def test_dr_refuses_rewards_of_whole_requests_and_says_what_to_use() -> None:
    log = cluster(100, seed=3, is_whole=True)
    with pytest.raises(UnableToLearn, match="use objective ips"):
        learned_from(log, msgspec.structs.replace(QUICK, objective="dr"))


@pytest.mark.parametrize("seed", range(3))
def test_a_log_that_shows_nothing_leaves_the_uniform_policy_almost_as_it_is(seed: int) -> None:
    log = shop(600, seed=seed, base=0.02, lift=0.0)
    learned = learned_from(log, msgspec.structs.replace(QUICK, pulls=(0.3, 0.03, 0.003)))
    # A dozen clicks in all: what is proposed must stay supported by nearly the whole held-out part.
    assert learned.chosen.held_out.effective_units > 0.7 * learned.rows_held_out


def test_without_a_click_the_uniform_policy_is_kept_exactly() -> None:
    log = shop(400, seed=4, base=0.0, lift=0.0)
    learned = learned_from(log)
    assert learned.chosen.name == UNIFORM
    mask = torch.ones((1, 1, 4), dtype=torch.bool)
    with torch.no_grad():
        p = learned.module(request=torch.tensor([[3.0, 0.5]], dtype=torch.float64), mask=mask)
    assert p.tolist() == [[[0.25] * 4]]


def test_on_a_skewed_log_the_anchor_is_a_clone_of_its_policy() -> None:
    log = shop(2_000, seed=5, skew=2.0)
    longer = msgspec.structs.replace(QUICK.loop, epochs=20)
    learned = learned_from(log, msgspec.structs.replace(QUICK, pulls=(), loop=longer))
    assert learned.chosen.name == AS_LOGGED
    # The log earned 0.6, a uniform policy 0.3; the edges of quadrants are rounded by so small a network.
    assert value_of(learned, log) == pytest.approx(log.logged_value, abs=0.08)
    assert learned.chosen.held_out.mean_weight == pytest.approx(1, abs=0.1)


def test_a_strong_pull_stays_nearer_to_the_anchor_than_a_weak_one() -> None:
    log = shop(700, seed=6)
    strong, weak = (
        value_of(learned_from(log, msgspec.structs.replace(QUICK, pulls=(pull,))), log) for pull in (2.0, 0.003)
    )
    assert log.logged_value < strong < weak


def test_the_floor_of_the_spec_is_inside_the_learned_policy() -> None:
    log = shop(1_000, seed=7, floor=0.2)
    learned = learned_from(log)
    mask = torch.ones((len(log.truth), 1, 4), dtype=torch.bool)
    with torch.no_grad():
        p = learned.module(request=torch.from_numpy(log.arrays["request"]), mask=mask)
    assert float(p.min()) >= 0.2 / 4 - 1e-7
    assert float(p.max()) > 0.7


def test_the_same_seed_gives_the_same_policy_and_another_seed_another() -> None:
    log = shop(300, seed=8)
    first, again, other = (
        learned_from(log, msgspec.structs.replace(QUICK, loop=msgspec.structs.replace(QUICK.loop, seed=seed)))
        for seed in (0, 0, 1)
    )
    assert weights_of(first) == weights_of(again)
    assert first.candidates == again.candidates
    assert weights_of(first) != weights_of(other)


def test_learning_resumes_to_the_bits_of_an_uninterrupted_run(tmp_path: Path) -> None:
    log = shop(300, seed=9, skew=1.0)
    whole = learned_from(log)
    ticks = iter(range(1_000))
    interrupted = start_budget(lambda: float(next(ticks)), cpu_clock=lambda: 0.0, wall_limit_s=3)
    part = learned_from(log, budget=interrupted, checkpoints=tmp_path)
    resumed = learned_from(log, checkpoints=tmp_path)
    assert [candidate.name for candidate in part.candidates] == [AS_LOGGED]
    assert part.chosen.stopped == "wall_limit"
    assert weights_of(resumed) == weights_of(whole)
    assert resumed.candidates == whole.candidates


def test_a_budget_leaves_the_first_candidates_in_place() -> None:
    log = shop(300, seed=10)
    ticks = iter(range(1_000))
    budget = start_budget(lambda: float(next(ticks)), cpu_clock=lambda: 0.0, wall_limit_s=4)
    learned = learned_from(log, msgspec.structs.replace(QUICK, pulls=(0.3, 0.03)), budget=budget)
    assert [candidate.name for candidate in learned.candidates] == [UNIFORM, "ips pull 0.3"]


@given(
    weight=arrays(np.float64, 8, elements=st.floats(0, 1e4)),
    advantage=arrays(np.float64, 8, elements=st.floats(-10, 10)),
    clip=st.floats(1, 100),
)
def test_a_cut_weight_never_makes_a_gain_larger(weight: Floats, advantage: Floats, clip: float) -> None:
    gain = pessimistic_gain(torch.from_numpy(weight), torch.from_numpy(advantage), clip=clip).numpy()
    assert (gain <= weight * advantage).all()
    assert (gain[advantage > 0] <= clip * advantage[advantage > 0] * (1 + 1e-12)).all()
    assert (gain[advantage < 0] == (weight * advantage)[advantage < 0]).all()


@pytest.mark.parametrize("is_uniform", [True, False])
def test_the_loss_is_the_textbook_objective(is_uniform: bool) -> None:
    log = shop(120, seed=11, skew=0.0 if is_uniform else 1.0)
    encoded = encode_log(log.feedback, spec=log.spec, reward={"click": 1.0})
    torch.manual_seed(3)
    network = uniform_network(log.spec, width=8, depth=1)
    torch.nn.init.normal_(network.by_id.layers[-1].weight)  # type: ignore[union-attr, arg-type]
    tensors = [to_tensors(encoded.groups[0], network=network, device=CPU, scale=scale_of(encoded), predicted=None)]
    settings = LearnSettings(weight_clip=2.0, variance_penalty=0.5)
    part = Part(log=encoded, tensors=tensors, predicted=None)
    task = LearnTask(train=part, judge=lambda _: 0.0, pull=0.2, settings=settings)
    with torch.no_grad():
        found = float(task.loss(network, torch.arange(120)))
        p = network(request=torch.from_numpy(encoded.groups[0].arrays["request"]), mask=tensors[0].mask)[:, 0].numpy()
    group = encoded.groups[0]
    reward = group.reward[:, 0]
    advantage = (reward - reward.mean()) / reward.std()
    weight = p[np.arange(120), group.action[:, 0]] / group.propensity[:, 0]
    gain = np.minimum(weight * advantage, np.minimum(weight, 2.0) * advantage)
    divergence = (p * np.log(p * 4)).sum(axis=1).mean()
    expected = 0.5 * gain.std() / math.sqrt(120) - gain.mean() + 0.2 * divergence
    # float32 sums of 120 rows
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_minibatch_counts_every_group_once() -> None:
    log = market(90, seed=12)
    encoded = encode_log(log.feedback, spec=log.spec, reward={"click": 1.0})
    network = uniform_network(log.spec, width=8, depth=1)
    tensors = [
        to_tensors(group, network=network, device=CPU, scale=scale_of(encoded), predicted=None)
        for group in encoded.groups
    ]
    part = Part(log=encoded, tensors=tensors, predicted=None)
    task = LearnTask(train=part, judge=lambda _: 0.0, pull=1.0, settings=LearnSettings(variance_penalty=0.0))
    with torch.no_grad():
        parts = [float(task.loss(network, rows)) * len(rows) for rows in torch.split(torch.arange(90), 7)]
        whole = float(task.loss(network, torch.arange(90)))
    assert task.row_count == 90
    assert sum(parts) / 90 == pytest.approx(whole, abs=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("objective", ["ips", "dr"])
def test_a_gpu_learns_as_well_as_the_cpu(objective: str) -> None:
    log = shop(2_000, seed=1, skew=1.5)
    settings = msgspec.structs.replace(QUICK, objective=objective)
    on_gpu = learned_from(log, settings, device=torch.device("cuda"))
    assert next(on_gpu.module.parameters()).device == CPU
    assert value_of(on_gpu, log) == pytest.approx(value_of(learned_from(log, settings), log), abs=0.05)
