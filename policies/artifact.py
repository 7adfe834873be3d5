"""The artifact: one folder that holds a policy, named by the digest of its manifest; saved, loaded, proven at load.

The canonical form of a manifest is what `json.dumps(document, sort_keys=True, separators=(",", ":"))` gives; the file
holds exactly those bytes, and their SHA-256 is the identity, so that `sha256sum manifest.json` tells it.
`manifest.sha256` repeats it, for `sha256sum --check` and for the loader: a folder may have any name.
"""

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import msgspec
from numpy.typing import NDArray

from policies.errors import Unable, UsageProblem
from policies.gates import ArtifactRefused as ArtifactRefused  # the loader's own error, raised by its gates too
from policies.gates import (
    Gate,
    check_batch_invariance,
    check_inner_invariance,
    check_operators,
    check_output,
    check_selftest,
    gate_inputs,
)
from policies.graph import UnableToReadGraph, read_contents
from policies.npz import UnableToReadArrays, load_npz, save_npz
from policies.onnx_policy import OnnxPolicy, OnnxProbe, UnableToLoadGraph
from policies.recourse.contract import Recourse
from policies.recourse.load import load_recourse
from policies.selftest import SelftestInvalid, unpack_selftest
from policies.signature import SignatureMismatch
from policies.spec import PolicySpec, spec_to_bytes

SCHEMA = "penstock-artifact/1"
MANIFEST, SEAL = "manifest.json", "manifest.sha256"
GRAPH, SELFTEST, RECOURSE = "policy.onnx", "selftest.npz", "recourse.npz"

_HEX = re.compile(r"[0-9a-f]{64}")


class ArtifactNotFound(UsageProblem):
    """There is no folder where an artifact was expected."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what an artifact is made of: its files by digest, its spec, and how it was trained (no times, no paths)."""

    schema: str
    spec: PolicySpec
    files: dict[str, str]
    opset: int
    training: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Hold an artifact that passed every gate."""

    folder: Path
    manifest: Manifest
    identity: str
    spec: PolicySpec
    policy: OnnxPolicy
    recourse: Recourse | None


def save_artifact(
    folder: Path,
    *,
    spec: PolicySpec,
    graph: bytes,
    selftest: Mapping[str, NDArray[Any]],
    recourse: Mapping[str, NDArray[Any]] | None = None,
    provenance: Mapping[str, Any],
) -> str:
    """Write an artifact's files into a folder and return its identity.

    A new folder appears whole or not at all. In a folder that exists, the manifest goes first and comes back last, so
    that a load in between finds none; other files there are left alone.

    Raises:
        ValueError: the provenance is not plain JSON, or holds an absolute path.
        UnableToReadGraph: the graph is not an ONNX model.
    """
    contents = {GRAPH: graph, SELFTEST: save_npz(selftest)}
    if recourse is not None:
        contents[RECOURSE] = save_npz(recourse)
    _refuse_paths(provenance)
    document = {
        "schema": SCHEMA,
        "spec": msgspec.json.decode(spec_to_bytes(spec)),
        "files": {name: sha256(data).hexdigest() for name, data in contents.items()},
        "opset": read_contents(graph).opset,
        "training": dict(provenance),
    }
    manifest = canonical_bytes(document)
    identity = sha256(manifest).hexdigest()
    _write_folder(folder, {**contents, SEAL: _seal(identity), MANIFEST: manifest})
    return identity


def load_artifact(folder: Path) -> Artifact:
    """Read an artifact and let it prove itself: digests, signature, self-test vectors, outputs, batch invariance.

    Raises:
        ArtifactNotFound: there is no such folder.
        ArtifactRefused: a gate did not open; the message names it, what was expected and what was found.
    """
    if not folder.is_dir():
        raise ArtifactNotFound(f"expected an artifact's folder at {folder}, found none; `penstock train` writes one")
    try:
        return _load(folder)
    except ArtifactRefused as error:
        raise ArtifactRefused(error.gate, error.detail, folder=folder) from error


def canonical_bytes(document: Mapping[str, Any]) -> bytes:
    """Write a manifest's document in the one form that has an identity.

    >>> canonical_bytes({"opset": 20, "files": {}})
    b'{"files":{},"opset":20}'
    """
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _load(folder: Path) -> Artifact:
    document = _read_document(folder)
    manifest = _read_manifest(document)
    identity = sha256(canonical_bytes(document)).hexdigest()
    contents = _read_files(folder, manifest)
    policy = _open_policy(contents[GRAPH], manifest, identity)
    _prove(policy, contents[SELFTEST], contents[GRAPH])
    recourse = _open_recourse(contents.get(RECOURSE), manifest.spec)
    _check_identity(folder, identity)
    return Artifact(
        folder=folder, manifest=manifest, identity=identity, spec=manifest.spec, policy=policy, recourse=recourse
    )


def _read_document(folder: Path) -> dict[str, Any]:
    data = _read_file(folder, MANIFEST)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ArtifactRefused("manifest", f"expected {MANIFEST} to be JSON, found {error}") from error
    if not isinstance(document, dict):
        raise ArtifactRefused("manifest", f"expected {MANIFEST} to be an object, found {type(document).__name__}")
    return document


def _read_manifest(document: dict[str, Any]) -> Manifest:
    """Convert a manifest, its version first: a newer schema is told from a broken one."""
    schema = document.get("schema")
    if schema != SCHEMA:
        raise ArtifactRefused("schema", f"expected schema {SCHEMA!r}, found {schema!r}; train again or update penstock")
    try:
        msgspec.convert(document.get("spec"), PolicySpec)
    except msgspec.ValidationError as error:
        raise ArtifactRefused("spec", f"expected the spec of a policy, found: {error}") from error
    try:
        manifest = msgspec.convert(document, Manifest)
        canonical_bytes(document)
    except (msgspec.ValidationError, ValueError) as error:
        expected = "schema, spec, files, opset and training"
        raise ArtifactRefused("manifest", f"expected {expected}, found: {error}") from error
    _check_files(manifest)
    return manifest


def _check_files(manifest: Manifest) -> None:
    """Refuse a list of digests that misses a file, names an unknown one, or holds something else than digests."""
    expected = {GRAPH, SELFTEST} | ({RECOURSE} if _has_recourse(manifest.spec) else set())
    found = set(manifest.files)
    if found != expected:
        raise ArtifactRefused("files", f"expected digests of {sorted(expected)}, found those of {sorted(found)}")
    for name, digest in manifest.files.items():
        if not _HEX.fullmatch(digest):
            raise ArtifactRefused("files", f"expected 64 lower-case hex digits for {name}, found {digest!r}")


def _read_files(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    contents = {name: _read_file(folder, name) for name in sorted(manifest.files)}
    for name, data in contents.items():
        found = sha256(data).hexdigest()
        if found != manifest.files[name]:
            raise ArtifactRefused("digest", f"{name}: expected SHA-256 {manifest.files[name]}, found {found}")
    return contents


def _read_file(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise ArtifactRefused("missing_file", f"expected {name}, found: {error.strerror}") from error


def _open_policy(graph: bytes, manifest: Manifest, identity: str) -> OnnxPolicy:
    try:
        check_operators(read_contents(graph), opset=manifest.opset)
        return OnnxPolicy(graph, spec=manifest.spec, identity=identity)
    except (UnableToReadGraph, UnableToLoadGraph) as error:
        raise ArtifactRefused("graph", str(error)) from error
    except SignatureMismatch as error:
        raise ArtifactRefused("signature", str(error)) from error


def _prove(policy: OnnxPolicy, selftest: bytes, graph: bytes) -> None:
    spec = policy.spec
    try:
        vectors = unpack_selftest(load_npz(selftest, where=SELFTEST), spec=spec)
    except (UnableToReadArrays, SelftestInvalid) as error:
        raise ArtifactRefused("selftest", str(error)) from error
    gate: Gate = "selftest"
    try:
        check_selftest(policy, vectors, spec=spec)
        gate = "output"
        groups = gate_inputs(spec, [(arrays, mask) for arrays, mask, _ in vectors])
        check_output(policy, groups, spec=spec)
        gate = "batch_invariance"
        check_batch_invariance(policy, groups)
        check_inner_invariance(OnnxProbe(graph), groups)
    except Unable:
        raise
    except Exception as error:  # onnxruntime's errors at run time have no common root but Exception
        raise ArtifactRefused(gate, f"expected the graph to run on inputs of its spec, found: {error}") from error


def _open_recourse(data: bytes | None, spec: PolicySpec) -> Recourse | None:
    if data is None or spec.recourse is None:
        return None
    try:
        return load_recourse(spec.recourse.kind, load_npz(data, where=RECOURSE), spec)
    except Unable as error:
        raise ArtifactRefused("recourse", str(error)) from error


def _check_identity(folder: Path, identity: str) -> None:
    """Refuse another name or seal; last, so that whoever edits a manifest learns first what the edit broke."""
    name = folder.resolve().name
    if _HEX.fullmatch(name) and name != identity:
        raise ArtifactRefused("identity", f"expected the folder's name {name} to be the identity, found {identity}")
    if not (folder / SEAL).exists():
        return
    found = _read_file(folder, SEAL)
    if found != _seal(sha256((folder / MANIFEST).read_bytes()).hexdigest()):
        raise ArtifactRefused("identity", f"expected {SEAL} to hold the SHA-256 of {MANIFEST}, found {found[:64]!r}")


def _has_recourse(spec: PolicySpec) -> bool:
    return spec.recourse is not None and spec.recourse.kind != "none"


def _seal(identity: str) -> bytes:
    return f"{identity}  {MANIFEST}\n".encode()


def _write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        made = Path(scratch) / "artifact"
        made.mkdir()
        for name, data in contents.items():
            _write_durably(made / name, data)
        if not folder.exists():
            made.replace(folder)
            return
        for name in (MANIFEST, SEAL, RECOURSE):
            (folder / name).unlink(missing_ok=True)
        for name in contents:
            (made / name).replace(folder / name)


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as target:
        target.write(data)
        target.flush()
        os.fsync(target.fileno())


def _refuse_paths(provenance: Any) -> None:
    """Refuse what would make the same policy another artifact in another folder."""
    if isinstance(provenance, Mapping):
        for key, value in provenance.items():
            _refuse_paths(key)
            _refuse_paths(value)
    elif isinstance(provenance, list | tuple):
        for value in provenance:
            _refuse_paths(value)
    elif isinstance(provenance, str) and _is_path(provenance):
        raise ValueError(f"provenance holds neither times nor paths, found {provenance!r}")


def _is_path(text: str) -> bool:
    return PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
