"""Verdicts on the structure of inputs, kept beside the inputs so that the same bytes are checked once.

A verdict is a blob named after an input's blob, which never changes. A verdict only saves work: a missing or torn
verdict, or a verdict for another endpoint or by different rules, is made anew, and a verdict that can't be written is
left out. A verdict goes with its input, at the latest a day after writing, when upkeep deletes blobs without an owner.
"""

from hashlib import blake2b
from pathlib import Path

import msgspec
import structlog

from app.domain import limits, line, line_tokens, nesting, prefix, source_lines, structure, surrogates
from app.domain.errors import BlobMissing, StorageFull, Unavailable
from app.domain.ids import new_token
from app.domain.limits import MIB
from app.domain.structure import Structure
from app.services.ports import Blobs

log = structlog.get_logger()

# Checking a smaller file takes less time than writing another blob.
_WORTH_KEEPING_BYTES = MIB
# Above the largest verdict: 50,000 entries, the names of models and a hundred errors.
_MAX_VERDICT_BYTES = 16 * MIB
_DIGEST_BYTES = 32
# The code of these modules makes a verdict: changed code may judge equal bytes differently.
_RULES = (limits, line, line_tokens, nesting, prefix, source_lines, structure, surrogates)


class _Verdict(msgspec.Struct, frozen=True):
    rules: str
    input_blob: str
    input_bytes: int
    endpoint: str
    structure: Structure


def verdict_blob(input_blob: str) -> str:
    """Return the key of the verdict on an input."""
    return f"verdicts/{input_blob.rpartition('/')[2]}"


class Verdicts:
    """Finds and keeps verdicts.

    Args:
        blobs: the store of inputs and verdicts.
        rules: identifies the rules behind the verdicts; by default a digest of the code of these rules.
    """

    def __init__(self, blobs: Blobs, rules: str | None = None) -> None:
        self._blobs = blobs
        self._rules = rules or _digest_of_rules()

    def find(self, input_blob: str, endpoint: str) -> Structure | None:
        """Return the known structure of an input for an endpoint, else None; BlobMissing if the input is gone."""
        try:
            kept = self._blobs.read(verdict_blob(input_blob), 0, _MAX_VERDICT_BYTES)
        except BlobMissing:
            return None
        size = self._blobs.size(input_blob)
        digest, packed = kept[:_DIGEST_BYTES], kept[_DIGEST_BYTES:]
        if _digest(packed) != digest:
            log.warning("verdict.torn", blob=verdict_blob(input_blob), next="the file is checked anew")
            return None
        try:
            verdict = msgspec.msgpack.decode(packed, type=_Verdict)
        except msgspec.DecodeError:
            # Written by another version.
            return None
        is_fitting = (verdict.rules, verdict.input_blob, verdict.input_bytes, verdict.endpoint) == (
            self._rules,
            input_blob,
            size,
            endpoint,
        )
        return verdict.structure if is_fitting else None

    def keep(self, input_blob: str, endpoint: str, structure: Structure, bytes_read: int) -> None:
        """Keep the structure from a pass over `bytes_read` bytes of an input, if worth a blob and if there is room."""
        if bytes_read < _WORTH_KEEPING_BYTES:
            return
        try:
            size = self._blobs.size(input_blob)
            packed = msgspec.msgpack.encode(_Verdict(self._rules, input_blob, size, endpoint, structure))
            self._write(verdict_blob(input_blob), _digest(packed) + packed)
        except (BlobMissing, StorageFull, Unavailable) as fault:
            log.warning("verdict.not_kept", blob=verdict_blob(input_blob), error=str(fault))

    def _write(self, key: str, data: bytes) -> None:
        writer = self._blobs.create(key)
        try:
            writer.write(data)
            writer.commit()
        finally:
            writer.discard()


def _digest(packed: bytes) -> bytes:
    return blake2b(packed, digest_size=_DIGEST_BYTES).digest()


def _digest_of_rules() -> str:
    try:
        code = b"\0".join(Path(module.__file__ or "").read_bytes() for module in _RULES)
    except OSError:
        # Installed without its sources: verdicts hold for this process only.
        return new_token()
    return blake2b(code, digest_size=16).hexdigest()
