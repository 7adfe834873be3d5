"""Hydrothermal dispatch as a `TargetProblem`: targets are volumes, stages are priced by the cache of dual vertices.

In strict form the volumes are the targets, so the stages decouple once the targets are known: all stages of all paths
are priced at once, on whatever device the tensors lie. The derivative by a target is that of its own stage (the target
lowers the release) plus that of the next one (it raises the water there).
"""

# B path, T stage, R reservoir, M point, P period

from dataclasses import astuple, dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from optimizer.contract import DualSolution, Observation, Split
from optimizer.hydrothermal.case import Case, Floats
from optimizer.hydrothermal.inflow import InflowTable, Integers
from optimizer.hydrothermal.network import TargetNetwork
from optimizer.hydrothermal.reach import ReachableMap
from optimizer.hydrothermal.stage import StageArrays
from optimizer.hydrothermal.vertices import Audit, Counts, DualVertices, violation_cost
from optimizer.solvers.program import Integers as Indices

_SPLITS: Final[dict[Split, int]] = {"train": 0, "validation": 1, "test": 2}
_SEED_OF_AUDITS: Final = 3
_SEED_OF_SEEDING: Final = 4
_AUDIT_POINTS: Final = 100
_SOLVED_AT_MOST: Final = 40
_AUDITS_AT_LEAST: Final = 5
_AUDITS_AT_MOST: Final = 8
_FEW: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class Scenarios:
    """Hold paths of inflow, float [B, T, R], in the case's flow, on the problem's device."""

    inflow: Tensor


class HydrothermalProblem:
    """Fulfill `contract.TargetProblem` and `training.dual.DualProblem` for one case and horizon."""

    def __init__(
        self,
        arrays: StageArrays,
        *,
        stages: int,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.arrays, self.case, self.stages = arrays, arrays.case, stages
        self.device, self.dtype = device or torch.device("cpu"), dtype
        self.vertices = DualVertices(arrays, device=self.device)
        self._volume_initial = torch.tensor(self.case.volume_initial, dtype=dtype, device=self.device)

    def scenarios(self, count: int, *, split: Split, seed: int) -> Scenarios:
        """Draw paths, stratified in each stage over its scenarios; the seeds of splits never meet."""
        generator = np.random.default_rng([seed, _SPLITS[split]])
        inflow_BTR = draw_paths(self.case, count, stages=self.stages, generator=generator)
        return Scenarios(inflow=torch.tensor(inflow_BTR, dtype=self.dtype, device=self.device))

    def observe(self, state: Tensor, scenarios: Scenarios, stage: int) -> Observation:
        """Return the graph's inputs of a stage (from 0): its number from 1, the volumes, and the inflows so far."""
        count = state.shape[0]
        number = torch.full((count, 1), stage + 1.0, dtype=torch.float64, device=state.device)
        seen = scenarios.inflow[:, : stage + 1].double()
        return {
            "request": torch.cat([number, state.double()], dim=1),
            "sequence_inflow": seen,
            "length_inflow": torch.full((count,), stage + 1.0, dtype=torch.float64, device=state.device),
        }

    def propose(self, module: TargetNetwork, scenarios: Scenarios) -> Tensor:
        """Return the targets of the whole horizon, [B, T, R], differentiable in the module's weights."""
        return module.roll_out(scenarios.inflow)

    def solve(self, targets: Tensor, scenarios: Scenarios) -> DualSolution:
        """Price all stages by the vertices found so far; the state reached is the target."""
        release_TBR = self._releases(targets, scenarios)
        cost_TB = torch.empty(release_TBR.shape[:2], dtype=release_TBR.dtype, device=release_TBR.device)
        water_dual_TBR = torch.empty_like(release_TBR)
        periods = self.vertices.periods
        for period in range(min(periods, self.stages)):
            part = release_TBR[period::periods]
            bound, slope = self.vertices.evaluate(part.reshape(-1, part.shape[2]), period=period)
            cost_TB[period::periods] = bound.reshape(part.shape[:2])
            water_dual_TBR[period::periods] = slope.reshape(part.shape)
        target_dual_TBR = -water_dual_TBR
        target_dual_TBR[:-1] += water_dual_TBR[1:]
        violation_BT, by_volume = self._violations(targets)
        return DualSolution(
            cost=cost_TB.sum(dim=0) + violation_BT.sum(dim=1),
            target_dual=target_dual_TBR.transpose(0, 1) + by_volume,
            state=targets,
        )

    def refine(self, targets: Tensor, scenarios: Scenarios, *, seed: int) -> Audit:
        """Look at some of the stages that the targets lead to, and solve those by HiGHS that are not certified.

        The vertices that were missing are added. It is done in parts, so that what one finds certifies points of the
        next; while more than one in twenty points is missing by what was found, as at a training's beginning, there are
        more parts. The last one's audit is returned.
        """
        release = self._releases(targets, scenarios).cpu().double().numpy()
        generator = np.random.default_rng([seed, _SEED_OF_AUDITS])
        for audits in range(1, _AUDITS_AT_MOST + 1):
            stage, path = np.unravel_index(
                generator.integers(release[:, :, 0].size, size=_AUDIT_POINTS), release.shape[:2]
            )
            periods = (stage % self.vertices.periods).astype(np.int32)
            found = self.vertices.audit(release[stage, path], periods=periods, solve_at_most=_SOLVED_AT_MOST)
            is_enough = audits >= _AUDITS_AT_LEAST or found.counts.solved == _SOLVED_AT_MOST
            if is_enough and found.missing_share <= _FEW:
                break
        return found

    def seed_vertices(self, *, paths: int, seed: int) -> None:
        """Fill the cache along random policies."""
        release, periods = random_releases(self.case, paths=paths, stages=self.stages, seed=seed)
        self.vertices.audit(release, periods=periods)
        self.vertices.counts = Counts()

    def state(self) -> dict[str, Tensor]:
        """Return what training has found out about the problem: the vertices, their bases and the counts of audits."""
        return {
            "duals": torch.tensor(self.vertices.duals),
            "bases": torch.tensor(self.vertices.bases.statuses),
            "counts": torch.tensor(astuple(self.vertices.counts), dtype=torch.int64),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what an earlier run found out."""
        points, certified, solved, misses, refused = state["counts"].tolist()
        counts = Counts(points=points, certified=certified, solved=solved, misses=misses, refused=refused)
        self.vertices.restore(state["duals"].numpy(), statuses=state["bases"].numpy(), counts=counts)

    def _releases(self, targets: Tensor, scenarios: Scenarios) -> Tensor:
        """Return the net releases r = v⁻ + K w − v̂, [T, B, R]."""
        first = self._volume_initial.expand(targets.shape[0], 1, -1)
        before = torch.cat([first, targets[:, :-1]], dim=1)
        released = before + self.case.volume_per_flow * scenarios.inflow - targets
        return released.transpose(0, 1).contiguous()

    def _violations(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return what volumes below their soft bounds cost, [B, T], and the derivative by the targets, [B, T, R]."""
        with torch.enable_grad():
            volume = targets.detach().requires_grad_()
            early = violation_cost(self.arrays, volume[:, :-1], is_last=False)
            late = violation_cost(self.arrays, volume[:, -1:], is_last=True)
            cost = torch.cat([early, late], dim=1)
            (gradient,) = torch.autograd.grad(cost.sum(), volume)
        return cost.detach(), gradient


def random_releases(case: Case, *, paths: int, stages: int, seed: int) -> tuple[Floats, Indices]:
    """Return releases along random policies, float64 [T B, R], and the periods of their loads, int32 [T B].

    Targets are fractions of the reach that favor empty and full.
    """
    generator = np.random.default_rng([seed, _SEED_OF_SEEDING])
    inflow_BTR = draw_paths(case, paths, stages=stages, generator=generator)
    reach, volume = ReachableMap(case), torch.tensor(case.volume_initial).expand(paths, -1)
    points = []
    for stage in range(stages):
        water = volume + case.volume_per_flow * torch.tensor(inflow_BTR[:, stage])
        fraction = torch.tensor(generator.beta(0.6, 0.6, size=tuple(water.shape))).clamp(max=1.0 - 1e-4)
        volume = reach(water, fraction)
        points.append((water - volume).numpy())
    periods = (np.arange(stages) % case.load.shape[0]).astype(np.int32)
    return np.concatenate(points), np.repeat(periods, paths)


def draw_paths(case: Case, count: int, *, stages: int, generator: np.random.Generator) -> Floats:
    """Draw paths of inflow, float64 [B, T, R], stratified in each stage: over scenarios, or over a law's normals."""
    if not isinstance(case.inflow, InflowTable):
        shape = (stages - 1, count, len(case.hydros))
        return case.inflow.paths(stratified_normals(shape, generator=generator))
    return case.inflow.paths(stratified(case.inflow, count, stages=stages, generator=generator))


def stratified_normals(shape: tuple[int, int, int], *, generator: np.random.Generator) -> Floats:
    """Draw standard normals, float64 [T, B, R], such that the B of each T and R fill as many equally likely parts.

    Each path alone is drawn by the law; the paths share a ladder (a Latin hypercube).
    """
    order = np.argsort(generator.random(shape), axis=1)
    level = (order + generator.random(shape)) / shape[1]
    normals: Floats = torch.special.ndtri(torch.from_numpy(level)).numpy()
    return normals


def stratified(table: InflowTable, count: int, *, stages: int, generator: np.random.Generator) -> Integers:
    """Draw scenario numbers, int64 [T, B], each scenario as often as its probability says, up to one.

    Each path alone is drawn by the probabilities; the paths of a stage share one ladder of equal rungs.
    """
    order = np.argsort(generator.random((stages, count)), axis=1)
    level = (order + generator.random((stages, count))) / count
    cumulative = np.cumsum(table.probability, axis=1)[np.arange(stages) % table.periods]
    cumulative[:, -1] = np.inf
    numbers: Integers = (level[:, :, None] >= cumulative[:, None, :]).sum(axis=2, dtype=np.int64)
    return numbers
