import io

import msgspec

from policies.events import AppliedRecourse, Choice, Decision, DecisionRequest, Source, to_bytes
from policies.spec import ActionSet, Output, PolicySpec, RecourseSpec
from serving.contract import Result
from serving.decision_csv import CsvSink, cells

SOURCE = Source(topic="requests", partition=0, offset=0)
STOCK = PolicySpec(
    domain="stock",
    actions=ActionSet(kind="quantity", names=("a", "b"), units=("t", "kg"), lower=(0, 0), upper=(9, 9)),
    recourse=RecourseSpec(kind="rounding", outputs=(Output(name="cost", units="USD"), Output(name="left", units="t"))),
)
SHOP = PolicySpec(domain="shop", actions=ActionSet(kind="choice", ids=("x", "y")))


def _decision(*choices: Choice, recourse: AppliedRecourse | None = None) -> Decision:
    request = DecisionRequest(request_id="r,1", domain="stock", time=0, unit="u")
    return Decision(
        request=msgspec.Raw(to_bytes(request)), policy="p", catalogue="c", platform="f", role="live",
        choices=choices, recourse=recourse, source=SOURCE, time=0,
    )  # fmt: skip


class _Others:
    def __init__(self) -> None:
        self.kinds: list[str] = []

    def write(self, results: object) -> None:
        assert isinstance(results, list)
        self.kinds += [result.kind for result in results]


def test_a_quantity_is_what_was_applied_with_its_units() -> None:
    found = cells(_decision(Choice(action=[1.5, 2.5], applied=[1.0, 3.0])), spec=STOCK)
    assert list(found) == [("", "a", 0, 1.0, "t"), ("", "b", 1, 3.0, "kg")]


def test_without_recourse_a_quantity_is_the_proposal() -> None:
    assert [cell[3] for cell in cells(_decision(Choice(action=[1.5, 2.5])), spec=STOCK)] == [1.5, 2.5]


def test_outputs_of_recourse_follow_with_their_units() -> None:
    recourse = AppliedRecourse(kind="rounding", status="ok", outputs={"cost": 4.0, "left": [1.0, 2.0]})
    found = list(cells(_decision(recourse=recourse), spec=STOCK))
    assert found == [("", "cost", 0, 4.0, "USD"), ("", "left", 0, 1.0, "t"), ("", "left", 1, 2.0, "t")]


def test_a_choice_is_an_action_with_its_propensity() -> None:
    found = list(cells(_decision(Choice(slot="s", action="x", propensity=0.5), Choice(action="y")), spec=SHOP))
    assert found == [("s", "action", 0, "x", ""), ("s", "propensity", 0, 0.5, ""), ("", "action", 0, "y", "")]


def test_only_decisions_become_lines() -> None:
    stream, others = io.StringIO(), _Others()
    decision = Result(kind="decision", value=to_bytes(_decision(Choice(action="x"))), key=b"", source=SOURCE)
    letter = Result(kind="dead_letter", value=b"{}", key=b"", source=SOURCE)
    CsvSink(stream, specs={"p": SHOP}, others=others).write([decision, letter])
    assert stream.getvalue() == 'request_id,slot,name,index,value,units\n"r,1",,action,0,x,\n'
    assert others.kinds == ["dead_letter"]
