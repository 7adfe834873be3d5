"""The stand serves through the real loops, and the world's answers come back as feedback."""

from penstock.demo.stand import Stand
from policies.events import Decision, DecisionRequest, Outcome, from_bytes
from tests.helpers.domains import WORKLOADS
from tests.helpers.lineups import artifact_of


def _world(decision: Decision) -> Outcome:
    request = from_bytes(bytes(decision.request), DecisionRequest)
    return WORKLOADS["ad_load"]().outcome(request)


def test_requests_come_back_as_decisions_outcomes_and_an_estimate() -> None:
    stand = Stand(artifact_of("ad_load"), world=_world)
    try:
        stand.serve(WORKLOADS["ad_load"]().messages(300))
        running = stand.serve(WORKLOADS["ad_load"]().messages(400)[300:])
        assert (len(stand.decisions()), len(stand.outcomes()), len(stand.feedback())) == (400, 400, 400)
        assert running is not None
        assert running["estimate"]["value"] == WORKLOADS["ad_load"]().outcome(
            WORKLOADS["ad_load"]().request(0)
        ).rewards[running["reward"]]
        assert 'penstock_results_total{domain="ad_load",kind="decision",reason=""} 400.0' in stand.metrics()
    finally:
        stand.close()
