"""Feed bytes to the decoder for as long as one likes, led by what they reach.

It needs atheris: ``python tests/codec/fuzz_decode.py -max_total_time=60``. The options are those of
libFuzzer. An input is a byte that says how it is meant, and the rest:

- 0: an entry as it comes from a store;
- 1: the same from its magic on, with the digest and the checksum that are right for it;
- 2: a payload;
- 3: the tree of a payload whose shapes are of many kinds;
- 4: the record of models, half of which pydantic reads and half orjson.

Whatever it is, unsealing raises `CorruptEntry` or `UnreadableEntry`, decoding raises ordinary
exceptions, what is decoded can be taken apart again, and nothing is imported or run.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

with atheris.instrument_imports(include=["llmcache", "zoneinfo", "uuid", "fractions", "base64"]):
    from llmcache.codec.encryption import Keyring
    from llmcache.codec.frame import CorruptEntry, Frame, UnreadableEntry
    from llmcache.codec.tree import PLAIN, RECORD, TEXT, TREE, decode, encode, same

import numpy  # noqa: E402, F401, ICN001

from codec import samples, test_golden_entries  # noqa: E402
from codec.planting import sealed  # noqa: E402
from llmcache import UncacheableValue  # noqa: E402

DIGEST = hashlib.sha256(b"fuzz").digest()
PLAIN_FRAME = Frame(max_plain=1 << 16)
SECRET_FRAME = Frame(max_plain=1 << 16, keyring=Keyring([bytes(range(32))]))
KINDS = [
    test_golden_entries.answer(),
    *test_golden_entries.VALUES["objects"],
    samples.Owner(pet=samples.Cat(), pets=[samples.Dog()]),
    samples.Area(width=1, height=2),
    samples.DictShape("a"),
    samples.Role.USER,
    samples.Bits(9),
    samples.Text("a"),
    samples.Mapping(a=samples.Items([samples.Number(1)])),
]
SHAPES = encode(KINDS)[1].partition(b"\n")[0]
HEAD, _, RECORDED = encode(test_golden_entries.record())[1].partition(b"\n")
HEADS = [HEAD, HEAD.replace(b"true]]", b"false]]")]
ran: list[str] = []
allowed = {"__hash__", "__eq__"}


class Finder:
    """Notices what is looked for to be imported, but for what the code names: tzdata and zstd."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] not in {"tzdata", "compression", "backports"}:
            ran.append(f"import {name}")


def watch(frame: object, event: str, arg: object) -> None:
    code = frame.f_code  # type: ignore[attr-defined]
    if event == "call" and code.co_filename == samples.__file__ and code.co_name not in allowed:
        ran.append(code.co_qualname)


def unsealed(frame: Frame, data: bytes) -> tuple[int, bytes] | None:
    try:
        entry, payload = frame.unseal(data, DIGEST)
    except (CorruptEntry, UnreadableEntry):
        return None
    assert len(payload) <= frame.max_plain
    return entry.codec, payload


def read(codec: int, payload: bytes) -> None:
    sys.setprofile(watch)
    try:
        value = decode(codec, payload)
        try:
            written = encode(value)
        except UncacheableValue:
            return
        assert same(decode(*written), value)
    except AssertionError:
        raise
    except Exception:
        return
    finally:
        sys.setprofile(None)


def test_one_input(data: bytes) -> None:
    how, rest = data[:1], bytes(data[1:])
    ran.clear()
    if how == b"\0":
        for frame in (PLAIN_FRAME, SECRET_FRAME):
            assert unsealed(frame, rest) is None or DIGEST in rest
    elif how == b"\1":
        body = rest[:52] + DIGEST + rest[84:]
        data = hashlib.sha256(body).digest()[:16] + body
        for frame in (PLAIN_FRAME, SECRET_FRAME):
            if found := unsealed(frame, data):
                read(*found)
    elif how == b"\2":
        read(TREE, rest)
        read(RECORD, rest)
        read(PLAIN, rest)
        read(TEXT, rest)
    elif how == b"\3":
        read(TREE, SHAPES + b"\n" + rest)
    else:
        read(RECORD, HEADS[len(rest) % 2] + b"\n" + rest)
    assert ran == [], ran


def corpus(folder: Path) -> None:
    """Write inputs to begin with."""
    folder.mkdir(exist_ok=True, parents=True)
    for name, value in test_golden_entries.VALUES.items():
        codec, payload = encode(value)
        entry = test_golden_entries.ABOUT._replace(codec=codec)
        body = sealed(entry, payload, DIGEST, compress=test_golden_entries.PACKED.get(name))
        (folder / f"entry-{name}").write_bytes(b"\1" + body[16:])
        (folder / f"payload-{name}").write_bytes(b"\2" + payload)
    tree = encode(KINDS)[1].partition(b"\n")[2]
    (folder / "tree").write_bytes(b"\3" + tree)
    (folder / "record").write_bytes(b"\4" + RECORDED)


if __name__ == "__main__":
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    if folders:
        corpus(folders[0])
    sys.meta_path.insert(0, Finder())
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
