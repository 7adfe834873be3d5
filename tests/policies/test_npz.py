import contextlib
import hashlib
import io
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from policies.npz import UnableToReadArrays, load_npz, save_npz

_KINDS = st.sampled_from(["<f8", "<f4", "<i8", "<i4", "<u8", "|i1", "|b1", "<U3"])
_NAMES = st.text("abcdefgh_", min_size=1, max_size=6)
_ARRAYS = st.dictionaries(_NAMES, hnp.arrays(_KINDS, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)), max_size=4)


@settings(max_examples=40)
@given(_ARRAYS)
def test_reading_is_the_inverse_of_writing(arrays: dict[str, NDArray[Any]]) -> None:
    found = load_npz(save_npz(arrays))
    assert {name: (a.dtype, a.shape, a.tobytes()) for name, a in found.items()} == {
        name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()
    }


@settings(max_examples=40)
@given(_ARRAYS)
def test_the_order_of_the_names_does_not_change_the_bytes(arrays: dict[str, NDArray[Any]]) -> None:
    assert save_npz(dict(reversed(arrays.items()))) == save_npz(arrays)


def test_layout_and_byte_order_do_not_change_the_bytes() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert save_npz({"a": np.asfortranarray(array)}) == save_npz({"a": array})
    assert save_npz({"a": array.astype(">f8")}) == save_npz({"a": array})


def test_the_bytes_are_those_of_every_other_day_and_machine() -> None:
    data = save_npz({"a": np.arange(3, dtype=np.int64), "name": np.array("text")})
    assert hashlib.sha256(data).hexdigest() == "b096b2ca82115fe1a85af3ac832aa927de0022d53962b4281cd7cbc3a229cf8e"


def test_numpy_reads_what_is_written() -> None:
    with np.load(io.BytesIO(save_npz({"a": np.arange(3)})), allow_pickle=False) as found:
        assert found["a"].tolist() == [0, 1, 2]


def test_objects_are_not_written() -> None:
    with pytest.raises(ValueError, match="Object arrays"):
        save_npz({"a": np.array([{}], dtype=object)})


def test_objects_are_named_where_they_are_needed_and_left_out_where_they_are_not() -> None:
    target = io.BytesIO()
    np.savez(target, a=np.arange(2), b=np.array(["x", None], dtype=object))
    assert load_npz(target.getvalue(), needed={"a"}).keys() == {"a"}
    with pytest.raises(UnableToReadArrays, match="Python objects in b; save texts as"):
        load_npz(target.getvalue(), needed={"a", "b"})


def test_pickled_objects_are_not_read() -> None:
    target = io.BytesIO()
    np.savez(target, a=np.array([{}], dtype=object))
    with pytest.raises(UnableToReadArrays, match="selftest"):
        load_npz(target.getvalue(), where="selftest.npz")


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip at all"])
def test_bytes_that_are_no_npz_are_refused(data: bytes) -> None:
    with pytest.raises(UnableToReadArrays, match="npz"):
        load_npz(data)


@pytest.mark.parametrize("shape", ["(3,)]", "(3", "(10**15,)", "(1000000000000000,)", "3"])
def test_an_array_with_a_damaged_header_is_refused(shape: str) -> None:
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(24))
    with pytest.raises(UnableToReadArrays):
        load_npz(target.getvalue())


@given(st.integers(min_value=0, max_value=10**6), st.integers(min_value=1, max_value=255))
def test_a_changed_byte_is_read_or_refused_and_never_another_error(place: int, change: int) -> None:
    data = bytearray(save_npz({"a": np.arange(3), "b": np.array("text")}))
    data[place % len(data)] ^= change
    with contextlib.suppress(UnableToReadArrays):
        assert isinstance(load_npz(bytes(data)), dict)
