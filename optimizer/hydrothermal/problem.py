"""Hydrothermal dispatch as a `TargetProblem`: targets are volumes, stages are priced by the cache of dual vertices.

In strict form the volumes are the targets, so the stages decouple once the targets are known: all stages of all paths
are priced at once, on whatever device the tensors lie. The derivative by a target is that of its own stage (the target
lowers the release) plus that of the next one (it raises the water there).
"""

# B path, T stage, R reservoir, M point, P period

from dataclasses import dataclass
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
from optimizer.hydrothermal.vertices import Audit, DualVertices, violation_cost

_SPLITS: Final[dict[Split, int]] = {"train": 0, "validation": 1, "test": 2}
_SEED_OF_AUDITS: Final = 3
_SEED_OF_SEEDING: Final = 4
_AUDIT_POINTS: Final = 40
_AUDITS_AT_MOST: Final = 8
_FEW: Final = 20


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
        """Solve some of the stages that the targets lead to by HiGHS, and add the vertices that were missing.

        While more than one in twenty is missing, as at a training's beginning, more are solved. The last audit is
        returned.
        """
        release = self._releases(targets, scenarios).cpu().double().numpy()
        generator = np.random.default_rng([seed, _SEED_OF_AUDITS])
        for _ in range(_AUDITS_AT_MOST):
            stage, path = np.unravel_index(
                generator.integers(release[:, :, 0].size, size=_AUDIT_POINTS), release.shape[:2]
            )
            found = self.vertices.audit(release[stage, path], periods=(stage % self.vertices.periods).astype(np.int32))
            if found.misses * _FEW <= found.points:
                break
        return found

    def seed_vertices(self, *, paths: int, seed: int) -> None:
        """Fill the cache along random policies: fractions of the reach that favor empty and full."""
        generator = np.random.default_rng([seed, _SEED_OF_SEEDING])
        inflow_BTR = draw_paths(self.case, paths, stages=self.stages, generator=generator)
        reach, volume = ReachableMap(self.case), torch.tensor(self.case.volume_initial).expand(paths, -1)
        points = []
        for stage in range(self.stages):
            water = volume + self.case.volume_per_flow * torch.tensor(inflow_BTR[:, stage])
            fraction = torch.tensor(generator.beta(0.6, 0.6, size=tuple(water.shape))).clamp(max=1.0 - 1e-4)
            volume = reach(water, fraction)
            points.append((water - volume).numpy())
        periods = (np.arange(self.stages) % self.vertices.periods).astype(np.int32)
        self.vertices.audit(np.concatenate(points), periods=np.repeat(periods, paths))
        self.vertices.points = self.vertices.misses = 0

    def state(self) -> dict[str, Tensor]:
        """Return what training has found out about the problem: the vertices and the counts of audits."""
        counts = [float(self.vertices.points), float(self.vertices.misses)]
        return {"duals": torch.tensor(self.vertices.duals), "counts": torch.tensor(counts, dtype=torch.float64)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what an earlier run found out."""
        points, misses = (int(count) for count in state["counts"].tolist())
        self.vertices.restore(state["duals"].numpy(), points=points, misses=misses)

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
