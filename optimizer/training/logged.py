"""Learning from a log: the gradient of the value that the log says a policy would have had.

With p the policy's probability of the logged action, w = p ÷ propensity and A = (reward - mean) ÷ deviation, training
maximizes the mean over a minibatch of

    ips   min(w A, min(w, clip) A)
    dr    Σ_a p(a) q(a) + the same with A - q(logged)

less two penalties: variance ÷ √n of what is averaged (a policy must not earn by a few lucky rows), and a pull towards
an anchor, KL(policy ‖ anchor). The anchor is what is known to be no worse than the log: the uniform policy where the
log explored evenly, else a clone of the policy that wrote it. Candidates of several pulls, the anchor itself the first,
are judged by their last weights on units that were held out; one replaces the former only if its interval starts
higher and if it earns more than the anchor, row by row, by more than one standard error. So a log that shows little
changes little, and one that shows nothing changes nothing.

Source: A. Swaminathan, T. Joachims, "Counterfactual Risk Minimization", ICML 2015 (the clipped objective and the
penalty for its variance); M. Dudík, J. Langford, L. Li, "Doubly Robust Policy Evaluation and Learning", ICML 2011.
L. Breiman et al., "Classification and Regression Trees" (1984), 3.4.3 (the rule of one standard error).
Deviation: a weight is cut only where that makes the gain smaller (J. Schulman et al., arXiv 1707.06347, equation 7),
because a cut weight on a bad action would hide it.
"""

# B request, S slot, A action

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import msgspec
import numpy as np
import torch
from torch import Tensor

from optimizer.networks.two_step import TwoStepPolicy
from optimizer.training.checkpoint import SUFFIX
from optimizer.training.encoded_log import EncodedLog, UnableToLearn, encode_log, split_by_unit
from optimizer.training.log_tensors import (
    GroupTensors,
    Judged,
    Predictions,
    judge,
    log_of,
    paired_gain,
    scale_of,
    score,
    to_tensors,
    weights_of,
    with_anchor,
)
from optimizer.training.loop import Budget, Fitted, LoopSettings, fit
from optimizer.training.progress import Progress
from optimizer.training.report import Candidate
from optimizer.training.reward_predictions import predict_rewards
from policies.evaluation.estimators import Estimate
from policies.feedback import Feedback
from policies.spec import PolicySpec

UNIFORM, AS_LOGGED = "uniform", "as logged"
"""What the anchor is called among the candidates."""


class LearnSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Say what is maximized, and how boldly.

    Attributes:
        objective: ips needs propensities alone; dr has less variance where rewards can be predicted.
        pulls: strengths of the pull towards the anchor, one candidate each, in deviations of the reward per nat; the
            strongest first, because a later one must be shown to be better.
        weight_clip: where importance weights are cut.
        variance_penalty: how many standard errors of the training value are taken off it.
        confidence: of the held-out interval whose lower end is compared, in (0, 1).
        loop: epochs, minibatches and steps of every fit. Candidates are not stopped early unless `check_every` asks for
            it: a few rows of large weight make held-out values of single epochs noisy, and the luckiest one wins
            (pendigits, dr: .878 to .948 with it, .939 to .948 without). The clone, judged by its likelihood, is.
    """

    objective: Literal["ips", "dr"] = "ips"
    pulls: tuple[float, ...] = (3.0, 0.3, 0.03)
    weight_clip: float = 100.0
    variance_penalty: float = 1.0
    confidence: float = 0.95
    loop: LoopSettings = LoopSettings(check_every=None)


class NetworkFactory(Protocol):
    """Make a network for a spec; its first policy must be the uniform one, and its weights follow torch's seed."""

    def __call__(self, spec: PolicySpec) -> TwoStepPolicy:
        """Return a network on the CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """Hold what was learned: the chosen module, on the CPU, in evaluation mode, its spec, and how it was chosen."""

    module: TwoStepPolicy
    spec: PolicySpec
    log_digest: str
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    rows_trained: int
    rows_held_out: int
    rows_excluded: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Hold one side of the split, encoded and as tensors; `predicted` is per group, None where nothing predicts."""

    log: EncodedLog
    tensors: list[GroupTensors]
    predicted: list[Predictions] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnTask:
    """Learn a policy from one part and judge it by the other; see the module's page for the objective."""

    train: Part
    judge: Callable[[TwoStepPolicy], float]
    pull: float
    settings: LearnSettings

    @property
    def row_count(self) -> int:
        """The number of requests; all choices of one are weighed together."""
        return sum(map(len, self.train.tensors))

    def loss(self, module: TwoStepPolicy, rows: Tensor) -> Tensor:
        parts = [self._gains(module, tensors) for tensors in _picked(self.train.tensors, rows)]
        gain, square, pull, weighed, acted = torch.stack(parts).sum(dim=0)
        mean = gain / weighed.clamp_min(1.0)
        # The square root has no slope at zero; a minibatch without a single gain must not stop the fit.
        deviation = (square / weighed.clamp_min(1.0) - mean.square()).clamp_min(1e-12).sqrt()
        penalty = self.settings.variance_penalty * deviation / max(self.train.log.row_count, 1) ** 0.5
        loss: Tensor = penalty - mean + self.pull * pull / acted.clamp_min(1.0)
        return loss

    def held_out(self, module: TwoStepPolicy) -> float:
        return self.judge(module)

    def _gains(self, module: TwoStepPolicy, group: GroupTensors) -> Tensor:
        """Return one group's sums: gain, its square, the divergence from the anchor, and the two counts: [5]."""
        p = module.probabilities(group.prepared, group.mask)
        weight = weights_of(p, group)
        gain = pessimistic_gain(weight, group.advantage, clip=self.settings.weight_clip)
        if group.prediction is not None:
            gain = gain + (p * group.prediction).sum(dim=2)
        gain = torch.where(group.is_weighed, gain, 0.0)
        product = torch.where(group.is_acted, weight, 1.0).prod(dim=1)
        whole = pessimistic_gain(product, group.whole_advantage, clip=self.settings.weight_clip)
        whole = torch.where(group.is_whole_weighed, whole, 0.0)
        divergence = (p * (log_of(p) - group.log_anchor)).sum(dim=2)
        return torch.stack(
            [
                gain.sum() + whole.sum(),
                gain.square().sum() + whole.square().sum(),
                torch.where(group.is_acted, divergence, 0.0).sum(),
                group.is_weighed.sum() + group.is_whole_weighed.sum(),
                group.is_acted.sum(),
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneTask:
    """Learn the policy that wrote the log: the likelihood of its actions, on both sides of the split."""

    train: Part
    judged: Part

    @property
    def row_count(self) -> int:
        """The number of requests to learn from."""
        return sum(map(len, self.train.tensors))

    def loss(self, module: TwoStepPolicy, rows: Tensor) -> Tensor:
        return self._surprise(module, _picked(self.train.tensors, rows))

    def held_out(self, module: TwoStepPolicy) -> float:
        return -float(self._surprise(module, self.judged.tensors))

    @staticmethod
    def _surprise(module: TwoStepPolicy, groups: list[GroupTensors]) -> Tensor:
        total, count = torch.zeros(()), torch.zeros(())
        for group in groups:
            p = module.probabilities(group.prepared, group.mask)
            logged = log_of(p).gather(2, group.action[:, :, None]).squeeze(2)
            total = total.to(logged.device) - torch.where(group.is_acted, logged, 0.0).sum()
            count = count.to(logged.device) + group.is_acted.sum()
        return total / count.clamp_min(1.0)


def pessimistic_gain(weight: Tensor, advantage: Tensor, *, clip: float) -> Tensor:
    """Return min(w A, min(w, clip) A), of tensors of one shape: gains are cut, losses are not.

    >>> weight, advantage = torch.tensor([200.0, 200.0, 2.0]), torch.tensor([1.0, -1.0, 1.0])
    >>> pessimistic_gain(weight, advantage, clip=100.0).tolist()
    [100.0, -200.0, 2.0]
    """
    return torch.minimum(weight * advantage, weight.clamp_max(clip) * advantage)


def learn(
    feedback: Feedback,
    *,
    spec: PolicySpec,
    reward: Mapping[str, float],
    make_network: NetworkFactory,
    settings: LearnSettings,
    device: torch.device,
    budget: Budget,
    progress: Progress,
    checkpoints: Path | None = None,
) -> Learned:
    """Learn a policy from a log.

    Args:
        feedback: the log.
        spec: of the policy; its floor is inside the network.
        reward: weight by name; what is maximized is the weighted sum.
        make_network: makes the network, once.
        settings: how.
        device: where; the whole log is kept there.
        budget: for all candidates together; those that it leaves no time for are left out.
        progress: told of every epoch.
        checkpoints: a folder with one file per candidate, continued from where they exist; None keeps none.

    Raises:
        UnableToLearn: the log does not hold what learning needs.
        UnableToUseFeedback: the spec does not fit the log.
        UnableToModelRewards: dr was asked for and the default model of rewards does not fit the log.
        UnableToTrain: a loss is not finite.
        UnableToResume: a checkpoint is damaged or of another run.
    """
    log = encode_log(feedback, spec=spec, reward=reward)
    if settings.objective == "dr" and log.has_whole_rewards:
        raise UnableToLearn("dr needs a reward of each choice, found rewards of whole requests; use objective ips")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.loop.seed)
        network = make_network(spec).to(device)
    digest = log.digest()
    train, held_out = _parts(log, network, settings, device)
    run = _Run(
        held_out=held_out, settings=settings, budget=budget, progress=progress, checkpoints=checkpoints,
        fingerprint=f"{digest} {settings} {network}",
    )  # fmt: skip
    anchor, fitted = _anchor(network, train, run)
    train = Part(log=train.log, tensors=_anchored(train, anchor, fitted), predicted=train.predicted)
    module, candidates, place = _choose(anchor, fitted, train, run)
    return Learned(
        module=module.cpu().eval(),
        spec=spec,
        log_digest=digest,
        chosen=candidates[place],
        candidates=tuple(candidates),
        rows_trained=train.log.row_count,
        rows_held_out=held_out.log.row_count,
        rows_excluded=log.excluded,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What all fits of one `learn` share."""

    held_out: Part
    settings: LearnSettings
    budget: Budget
    progress: Progress
    checkpoints: Path | None
    fingerprint: str

    def fit(self, module: TwoStepPolicy, task: LearnTask | CloneTask, *, name: str) -> Fitted:
        loop = self.settings.loop
        return fit(
            module,
            task=task,
            settings=msgspec.structs.replace(loop, check_every=1) if isinstance(task, CloneTask) else loop,
            budget=self.budget,
            progress=self.progress,
            title=name,
            checkpoint=None if self.checkpoints is None else self.checkpoints / f"{name.replace(' ', '_')}{SUFFIX}",
            fingerprint=f"{self.fingerprint} {name}",
        )

    def score(self, module: TwoStepPolicy) -> Judged:
        part = self.held_out
        return score(module, log=part.log, tensors=part.tensors, predicted=part.predicted)

    def estimate(self, module: TwoStepPolicy) -> Estimate:
        return judge(self.score(module), log=self.held_out.log, confidence=self.settings.confidence)

    def candidate(self, module: TwoStepPolicy, fitted: Fitted | None, *, name: str, pull: float | None) -> Candidate:
        return Candidate(
            name=name,
            strength=pull,
            held_out=self.estimate(module),
            best_epoch=0 if fitted is None else fitted.best_epoch,
            stopped="epochs" if fitted is None else fitted.stopped,
            history=() if fitted is None else fitted.history,
        )


def _parts(log: EncodedLog, network: TwoStepPolicy, settings: LearnSettings, device: torch.device) -> tuple[Part, Part]:
    sides = split_by_unit(log)
    scale = scale_of(sides[0])
    predicted = predict_rewards(*sides) if settings.objective == "dr" else (None, None)
    parts = []
    for side, predictions in zip(sides, predicted, strict=True):
        tensors = [
            to_tensors(
                group,
                network=network,
                device=device,
                scale=scale,
                predicted=None if predictions is None else predictions[place],
            )
            for place, group in enumerate(side.groups)
        ]
        parts.append(Part(log=side, tensors=tensors, predicted=predictions))
    return parts[0], parts[1]


def _anchor(network: TwoStepPolicy, train: Part, run: _Run) -> tuple[TwoStepPolicy, Fitted | None]:
    """Return the anchor: the fresh network, which is uniform, or a clone of what wrote the log and how that went."""
    if train.log.is_uniform:
        return network.eval(), None
    return network, run.fit(network, CloneTask(train=train, judged=run.held_out), name=AS_LOGGED)


def _anchored(train: Part, anchor: TwoStepPolicy, fitted: Fitted | None) -> list[GroupTensors]:
    if fitted is None:
        return train.tensors
    return [with_anchor(tensors, network=anchor) for tensors in train.tensors]


def _choose(
    anchor: TwoStepPolicy, fitted: Fitted | None, train: Part, run: _Run
) -> tuple[TwoStepPolicy, list[Candidate], int]:
    """Fit one candidate per pull and return the module whose interval starts highest, the anchor where none does."""
    candidates = [run.candidate(anchor, fitted, name=UNIFORM if fitted is None else AS_LOGGED, pull=None)]
    module, place, yardstick = anchor, 0, run.score(anchor)
    for pull in sorted(run.settings.pulls, reverse=True):
        if run.budget.spent():
            break
        trial, name = deepcopy(anchor), f"{run.settings.objective} pull {pull:g}"
        task = LearnTask(train=train, judge=lambda one: run.estimate(one).low, pull=pull, settings=run.settings)
        candidates.append(run.candidate(trial, run.fit(trial, task, name=name), name=name, pull=pull))
        gain, error = paired_gain(run.score(trial), yardstick)
        if gain > error and candidates[-1].held_out.low > candidates[place].held_out.low:
            module, place = trial, len(candidates) - 1
    return module, candidates, place


def _picked(tensors: list[GroupTensors], rows: Tensor) -> list[GroupTensors]:
    """Return the picked requests group by group; rows: int64 [B] on the CPU, places in all groups end to end."""
    if len(tensors) == 1:
        return [tensors[0].take(rows.to(tensors[0].mask.device))]
    ends = np.cumsum([len(group) for group in tensors])
    found = []
    for group, end in zip(tensors, ends.tolist(), strict=True):
        local = rows[(rows >= end - len(group)) & (rows < end)] - (end - len(group))
        if len(local):
            found.append(group.take(local.to(group.mask.device)))
    return found
