from optimizer.hydrothermal.sddp.numerical import numerical_report
from optimizer.hydrothermal.sddp.risk import Risk
from optimizer.hydrothermal.sddp.run import Run
from optimizer.hydrothermal.sddp.table import foot_lines, head_lines, iteration_lines
from optimizer.hydrothermal.sddp.train import Iteration, Trainer, Training
from tests.helpers.small_case import small_stage
from tests.helpers.trainers import few_choices, train


def _trainer(risk: Risk | None = None) -> Trainer:
    return Trainer(small_stage(), noise=few_choices(stages=3), training=Training(risk=risk or Risk()))


def test_the_head_says_what_is_solved_and_where_the_extremes_are() -> None:
    trainer = _trainer()
    lines = head_lines(trainer, ranges=numerical_report(small_stage(), noise=trainer.noise))
    text = "\n".join(lines)
    assert "stages          : 3" in text
    assert "3 to 3 of a stage, 10^1.4 paths" in text
    assert "risk measure    : expectation" in text
    assert any(line.startswith("  matrix") and "turbine[" in line for line in lines)


def test_the_rows_are_the_peers_columns() -> None:
    rows = [Iteration(number=at, simulation=2.0 * at, bound=1.5, solves=10 * at, cpu_s=0.5) for at in range(1, 231)]
    lines = iteration_lines(rows)
    assert lines[1].split() == ["iteration", "simulation", "bound", "time", "(s)", "solves", "pid"]
    assert lines[3].split() == ["1", "2.000000e+00", "1.500000e+00", "5.0000e-01", "10", "1"]
    shown = [int(line.split()[0]) for line in lines[3:]]
    assert shown == [*range(1, 11), *range(20, 101, 10), 200, 230]


def test_the_foot_says_how_it_ended() -> None:
    trainer = _trainer()
    run = Run(rows=tuple(train(trainer, 3)), status="iteration_limit", bound=7.0)
    text = "\n".join(foot_lines(run, trainer, ranges=(), simulation="12 [11, 13]", foresight="10"))
    assert "status         : iteration_limit" in text
    assert "best bound     : 7.00000000e+00" in text
    assert "simulation     : 12 [11, 13]" in text
    assert "foresight      : 10" in text
    assert "recoveries     : none" in text


def test_a_risk_adjusted_bound_is_called_one() -> None:
    trainer = _trainer(Risk(expectation_weight=0.5, tail_share=0.1))
    run = Run(rows=tuple(train(trainer, 1)), status="time_limit", bound=7.0)
    text = "\n".join([*head_lines(trainer, ranges=()), *foot_lines(run, trainer, ranges=(), simulation="")])
    assert "0.5 E + 0.5 AVaR(0.1), nested" in text
    assert "best bound, risk-adjusted: " in text
    assert "does not bound the simulated mean" in text
