"""What peers decide with is the service's own graph, run with the same options."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from bench.peers.serving.answering import Answering, options
from bench.serving.workload import export, requests, spec
from policies import onnx_policy
from policies.artifact import load_artifact
from policies.encode import Encoder
from policies.events import DecisionRequest, from_bytes

OPTIONS = ("intra_op_num_threads", "inter_op_num_threads", "execution_mode", "log_severity_level",
           "graph_optimization_level", "enable_mem_pattern", "enable_cpu_mem_arena")  # fmt: skip
ENTRIES = ("session.intra_op.allow_spinning", "session.inter_op.allow_spinning")


def test_peers_run_the_graph_as_the_service_does() -> None:
    ours, theirs = onnx_policy._options(), options()
    assert [getattr(theirs, name) for name in OPTIONS] == [getattr(ours, name) for name in OPTIONS]
    assert [theirs.get_session_config_entry(e) for e in ENTRIES] == [ours.get_session_config_entry(e) for e in ENTRIES]


@pytest.mark.slow
def test_a_peer_answers_with_the_best_action_of_the_probabilities_that_the_service_proposes(tmp_path: Path) -> None:
    export(tmp_path / "artifact")
    artifact, lines = load_artifact(tmp_path / "artifact"), requests(50)
    (bucket,) = Encoder(spec()).encode_requests([from_bytes(line, DecisionRequest) for line in lines]).buckets
    proposed = artifact.policy.propose(bucket.arrays, bucket.mask)[:, 0, :]
    answers = Answering(tmp_path / "artifact" / "policy.onnx").answer(lines)
    decoded = [msgspec.json.decode(value) for _, value in answers]
    assert [answer["scores"] for answer in decoded] == proposed.tolist()
    assert [answer["action"] for answer in decoded] == [f"a{best:02d}" for best in np.argmax(proposed, axis=1)]
    assert [key.decode() for key, _ in answers] == [f"bench-{number:08d}" for number in range(50)]


def test_requests_and_answers_have_the_size_that_is_written_of_them() -> None:
    lines = requests(200)
    assert sum(map(len, lines)) / len(lines) == pytest.approx(609, abs=6)
