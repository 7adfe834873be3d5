"""A spec is data: read back as it was written, refused where it contradicts itself."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from policies.errors import ContentRefused, UsageProblem
from policies.spec import (
    ActionSet,
    Field,
    PolicySpec,
    Reward,
    SpecNotFound,
    UnableToReadSpec,
    column_names,
    is_id,
    read_spec,
    spec_from_bytes,
    spec_path_of,
    spec_to_bytes,
)
from tests.helpers.small_specs import FEED, PAYMENT, SPECS, STORE, TASKS

CHOICE = ActionSet(kind="choice", ids=("a", "b"))


def quantity(**changes: Any) -> ActionSet:
    sound: dict[str, Any] = {"names": ("x",), "units": ("m",), "lower": (0.0,), "upper": (1.0,)}
    return ActionSet(kind="quantity", **{**sound, **changes})


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: str(spec.domain))
def test_a_spec_is_read_back_as_it_was_written(spec: PolicySpec, tmp_path: Path) -> None:
    assert spec_from_bytes(spec_to_bytes(spec)) == spec
    assert spec_to_bytes(spec_from_bytes(spec_to_bytes(spec))) == spec_to_bytes(spec)
    (tmp_path / "spec.json").write_bytes(spec_to_bytes(spec))
    assert read_spec(tmp_path / "spec.json") == spec


def test_equal_specs_have_equal_bytes_whether_their_numbers_are_whole_or_not() -> None:
    whole, real = (
        PolicySpec(domain="d", fields=(Field(name="x", lower=a, upper=b),), actions=CHOICE, floor=a)
        for a, b in ((0, 1), (0.0, 1.0))
    )
    assert spec_to_bytes(whole) == spec_to_bytes(real)


def test_the_columns_and_axes_follow_the_specs_order() -> None:
    assert FEED.request_columns == ("hour", "taste:0", "taste:1", "device")
    assert STORE.request_columns == ("stock:0", "stock:1", "stock:2")
    assert [field.name for field in STORE.sequence_fields] == ["sales"]
    assert [field.name for field in FEED.on("action")] == ["length", "brand"]
    assert column_names(FEED.on("action")) == ("length", "brand")


def test_the_shape_of_a_spec_is_read_off_its_actions() -> None:
    assert [s.is_quantity for s in (FEED, PAYMENT, TASKS, STORE)] == [False, False, False, True]
    assert [s.has_own_actions for s in (FEED, PAYMENT, TASKS, STORE)] == [False, True, True, False]
    assert [s.has_slots for s in (FEED, PAYMENT, TASKS, STORE)] == [False, False, True, False]


def test_bounds_are_spread_over_a_vector_and_a_category_counts_its_words() -> None:
    assert Field(name="x", width=2, lower=0, upper=(1.0, 2.0)).uppers == (1.0, 2.0)
    assert Field(name="x", width=2, lower=0, upper=(1.0, 2.0)).lowers == (0, 0)
    assert Field(name="x", vocabulary=("a", "b")).uppers == (2.0,)


def test_a_reward_is_found_by_name_and_an_unknown_one_is_a_usage_problem() -> None:
    assert FEED.reward("click").horizon_s == 3600.0
    with pytest.raises(UsageProblem, match="no reward 'spend' in the spec of 'feed'; it has click"):
        FEED.reward("spend")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": ""}, "name must not be empty"),
        ({}, "needs lower and upper bounds"),
        ({"lower": 0}, "needs lower and upper bounds"),
        ({"lower": 1, "upper": 0}, "lower must not exceed upper, found 1 > 0"),
        ({"lower": -math.inf, "upper": 0}, "bounds must be finite"),
        ({"lower": 0, "upper": math.nan}, "bounds must be finite"),
        ({"lower": 0, "upper": 1, "width": 0}, "width must be at least 1, found 0"),
        ({"lower": (0.0, 0.0), "upper": 1, "width": 3}, "give one bound, or one for each of 3"),
        ({"lower": 0, "upper": 1, "steps": 0}, "steps must be at least 1, found 0"),
        ({"lower": 0, "upper": 1, "steps": 2, "axis": "action"}, "only a request's field may be a sequence"),
        ({"lower": 0, "upper": 1, "missing": "none"}, "missing must be 'refuse' or a number, found 'none'"),
        ({"lower": 0, "upper": 1, "missing": True}, "missing must be 'refuse' or a number, found True"),
        ({"lower": 0, "upper": 1, "width": 2, "missing": (0.0,)}, "missing must be 'refuse' or a number or 2 numbers"),
        ({"lower": 0, "upper": 1, "outside": "clip", "missing": float("nan")}, "missing must be finite, found nan"),
        ({"lower": 0, "upper": 1, "missing": 2.0}, r"missing must lie in \[0, 1\], found 2.0"),
        ({"vocabulary": ("a",), "lower": 0}, "a category has no bounds"),
        ({"vocabulary": ("a", "a")}, "the vocabulary names a word twice"),
        ({"vocabulary": ("a",), "width": 2}, "a category is a single value"),
        ({"vocabulary": ("a",), "steps": 2}, "a category is a single value"),
        ({"vocabulary": ("a",), "missing": 1.0}, "missing must be 'refuse' or a word, found 1.0"),
    ],
)
def test_a_field_that_contradicts_itself_is_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Field(**{"name": "x", **content})


def test_a_fill_outside_the_bounds_is_sound_where_the_field_clips() -> None:
    assert Field(name="x", lower=0, upper=1, outside="clip", missing=2.0).missing == 2.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"kind": "choice", "ids": ()}, "at least one action id"),
        ({"kind": "choice", "ids": ("a", "a")}, "an action id is named twice"),
        ({"kind": "choice", "ids": ("",)}, "1 to 256 bytes"),
        ({"kind": "choice", "ids": ("\ud800",)}, "1 to 256 bytes"),
        ({"kind": "choice", "ids": ("a",), "fallback": "b"}, "neither 'first' nor an id"),
        ({"kind": "choice", "ids": ("a",), "fallback": (1.0,)}, "not a vector"),
        ({"kind": "choice", "ids": ("a",), "features": {"x": (1.0, 2.0)}}, "give one value for each of 1 ids"),
        ({"kind": "choice", "features": {"x": (1.0,)}}, "own actions bring theirs"),
        ({"kind": "quantity"}, "names of its components"),
    ],
)
def test_actions_that_contradict_themselves_are_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ActionSet(**content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"ids": ("a",)}, "a quantity has no action ids"),
        ({"units": ()}, "give units, lower and upper for each of the 1 components"),
        ({"lower": (2.0,)}, "lower must not exceed upper"),
        ({"upper": (math.inf,)}, "bounds of a quantity must be finite"),
        ({"fallback": "first"}, "is a vector of 1, found 'first'"),
        ({"fallback": (0.0, 0.0)}, "is a vector of 1"),
        ({"fallback": (2.0,)}, "must lie within the bounds"),
        ({"fallback": (math.nan,)}, "must lie within the bounds"),
    ],
)
def test_a_quantity_that_contradicts_itself_is_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantity(**content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": ""}, "name must not be empty"),
        ({"lower": 1.0, "upper": 0.0}, "lower must not exceed upper"),
        ({"default": math.nan}, "default must be finite"),
        ({"upper": math.inf}, "upper must be finite"),
        ({"horizon_s": -1.0}, "horizon_s must be a number of seconds"),
        ({"horizon_s": math.inf}, "horizon_s must be a number of seconds"),
    ],
)
def test_a_reward_that_contradicts_itself_is_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reward(**{"name": "click", **content})


def _number(name: str, **content: Any) -> Field:
    return Field(name=name, lower=0, upper=1, **content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"domain": "Shop"}, "a domain is lower case"),
        ({"domain": ""}, "a domain is lower case"),
        ({"floor": 1.1}, r"lies in \[0, 1\], found 1.1"),
        ({"floor": math.nan}, r"lies in \[0, 1\]"),
        ({"fields": (_number("x"), _number("x", axis="action"))}, "a field is named twice"),
        ({"rewards": (Reward(name="r"), Reward(name="r"))}, "a reward is named twice"),
        ({"fields": (_number("x", width=2), _number("x:1"))}, "named like a component of a vector"),
        ({"fields": (_number("id", axis="action"),)}, "columns of every table"),
        ({"fields": (_number("eligible", axis="action"),)}, "columns of every table"),
        ({"fields": (_number("x", axis="slot"),)}, "slot fields need actions of kind 'assignment'"),
        ({"actions": ActionSet(kind="choice", ids=("a",), features={"x": (1.0,)})}, "are not action fields"),
        ({"actions": quantity(), "fields": (_number("x", axis="action"),)}, "a quantity has no action or slot fields"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PolicySpec(**{"domain": "shop", "actions": CHOICE, **content})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated"),
        (b"\xff", "beside.json: "),
        (b'{"domain": "\xff"}', "beside.json: "),
        (b"[" * 100_000, "beside.json: "),
        (b"[]", "Expected `object`"),
        (b'{"domain": "d"}', "missing required field `actions`"),
        (b'{"domain": "d", "actions": {"kind": "choice"}, "extra": 1}', "unknown field `extra`"),
        (b'{"domain": "d", "actions": {"kind": "choice", "ids": []}}', "at least one action id"),
    ],
)
def test_bytes_that_are_no_spec_are_refused_with_their_place(data: bytes, message: str) -> None:
    with pytest.raises(UnableToReadSpec, match=message) as caught:
        spec_from_bytes(data, where="beside.json")
    assert isinstance(caught.value, ContentRefused)


def test_bounds_that_are_not_finite_cannot_be_smuggled_in_as_null() -> None:
    document = json.loads(spec_to_bytes(STORE))
    document["fields"][0]["upper"] = None
    with pytest.raises(UnableToReadSpec, match="needs lower and upper bounds"):
        spec_from_bytes(json.dumps(document).encode())


def test_a_spec_that_is_not_there_is_a_usage_problem(tmp_path: Path) -> None:
    with pytest.raises(SpecNotFound, match="name one with --spec"):
        read_spec(tmp_path / "absent.json")


def test_the_spec_of_a_part_lies_beside_the_whole_log_unless_it_has_its_own(tmp_path: Path) -> None:
    assert spec_path_of(tmp_path / "men.parquet") == tmp_path / "men.spec.json"
    assert spec_path_of(tmp_path / "men.test.parquet") == tmp_path / "men.spec.json"
    own = tmp_path / "men.test.spec.json"
    own.write_bytes(b"{}")
    assert spec_path_of(tmp_path / "men.test.parquet") == own


@pytest.mark.parametrize("text", ["a", "a" * 256, "é" * 128, " ", "\U0001f600" * 64])
def test_a_text_of_1_to_256_bytes_is_an_id(text: str) -> None:
    assert is_id(text)


@pytest.mark.parametrize("text", ["", "\x00", "a" * 257, "é" * 129, "\U0001f600" * 65, "\udfff", "a" * 100 + "\ud800"])
def test_a_text_that_utf8_cannot_say_in_256_bytes_is_no_id(text: str) -> None:
    assert not is_id(text)


def test_a_weighted_sum_is_bounded_where_all_of_its_rewards_are() -> None:
    click, cost = Reward(name="click", lower=0.0, upper=1.0), Reward(name="cost", lower=2.0, upper=5.0)
    rewards = (click, cost, Reward(name="free"))
    spec = PolicySpec(domain="shop", actions=ActionSet(kind="choice", ids=("a",)), rewards=rewards)
    assert spec.reward_bounds({"click": 2.0, "cost": -1.0}) == (-5.0, 0.0)
    assert spec.reward_bounds({"click": 1.0, "free": 1.0}) is None
    assert spec.reward_bounds({"unknown": 1.0}) is None
