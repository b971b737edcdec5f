"""What is compressed is smaller, comes back, and is never larger than it says."""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import sys
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twins import worlds

import llmcache
from codec.planting import Upstream, entry, sealed
from codec.test_classes import run
from llmcache import ConfigurationError, MissingExtra, llm_cached
from llmcache.codec.compression import (
    THRESHOLD,
    ZLIB,
    ZSTD,
    check_compression,
    compress,
    decompress,
)
from llmcache.codec.frame import CorruptEntry, Frame, UnreadableEntry
from llmcache.codec.tree import PLAIN

ALGORITHMS = {"zlib": ZLIB, "zstd": ZSTD}
algorithms = pytest.mark.parametrize("algorithm", ALGORITHMS)
DIGEST = bytes(range(32))
MEGA = 1 << 20
TEXT = "what is compressed " * 2000


@pytest.fixture
def no_zstd(monkeypatch):
    for name in ("compression", "compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)


@algorithms
@given(data=st.binary() | st.binary(max_size=20).map(lambda data: data * 1000))
def test_what_is_compressed_comes_back(algorithm, data):
    number, packed = compress(data, algorithm)
    assert number == ALGORITHMS[algorithm]
    assert decompress(number, packed, len(data)) == data


@algorithms
@pytest.mark.parametrize("length", [0, 1, 999, 1001, 10**9, 2**62])
def test_what_is_longer_or_shorter_than_it_says_is_none(algorithm, length):
    number, packed = compress(bytes(1000), algorithm)
    with pytest.raises(ValueError, match="not as long"):
        decompress(number, packed, length)


@algorithms
def test_what_is_cut_or_goes_on_is_none(algorithm):
    data = os.urandom(100) + bytes(100)
    number, packed = compress(data, algorithm)
    for changed in (*(packed[:end] for end in range(len(packed))), packed + b"\0", packed * 2):
        with pytest.raises(ValueError, match=r"not as long|no z"):
            decompress(number, changed, len(data))


@algorithms
@given(data=st.binary())
def test_what_was_never_compressed_is_none(algorithm, data):
    with pytest.raises(ValueError, match=r"not as long|no z"):
        decompress(ALGORITHMS[algorithm], b"\xff" + data, 10)


@pytest.mark.parametrize("number", [0, 3, 255])
def test_an_algorithm_of_another_version_is_not_known(number):
    with pytest.raises(LookupError):
        decompress(number, b"", 0)


@worlds
@pytest.mark.parametrize("chosen", ["zlib", "zstd", "auto", None])
def test_large_answers_are_stored_compressed(world, chosen):
    upstream = Upstream(world, TEXT, compress=chosen)
    assert upstream.ask() == TEXT
    assert upstream.ask() == TEXT
    assert upstream.calls == 1
    assert (len(upstream.stored()) < len(TEXT) / 10) is (chosen is not None)


@algorithms
def test_small_answers_are_not_worth_it(algorithm):
    frame = Frame(max_plain=MEGA, compress=algorithm)
    for length in (THRESHOLD - 1, THRESHOLD):
        data = frame.seal(entry(), b"a" * length, DIGEST)
        assert (len(data) > length) is (length < THRESHOLD)
        assert frame.unseal(bytes(data), DIGEST)[1] == b"a" * length


@worlds
def test_what_one_algorithm_wrote_is_read_by_functions_with_another(world):
    stored = Upstream(world, TEXT, compress="zlib")
    stored.ask()
    for chosen in ("zstd", "zlib", "auto", None):
        upstream = Upstream(world, compress=chosen)
        upstream.plant(stored.stored())
        assert upstream.ask() == TEXT
        assert upstream.calls == 0


@worlds
@algorithms
@pytest.mark.parametrize("said", [100, 8 * MEGA, 8 * MEGA + 1, 1 << 30, 2**63, 2**64 - 1])
def test_a_bomb_is_a_miss(world, algorithm, said):
    upstream = Upstream(world)
    upstream.plant(entry_with(bomb(algorithm), algorithm, said, upstream.digest))
    tracemalloc.start()
    try:
        assert upstream.ask() == "from upstream"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * MEGA
    assert upstream.calls == 1
    assert upstream.stats.corrupt == (said <= 8 * MEGA)
    assert upstream.ask() == "from upstream"
    assert upstream.stats.hits == 1


def entry_with(packed, algorithm, said, digest):
    """Return a whole entry of compressed bytes that says how long they are."""
    whole = sealed(entry(codec=PLAIN), packed, digest)
    body = bytearray(whole[16:])
    body[7] = ALGORITHMS[algorithm]
    body[12:20] = said.to_bytes(8, "little")
    return hashlib.sha256(body).digest()[:16] + bytes(body)


@functools.cache
def bomb(algorithm, size=1 << 30):
    """Return few bytes that are *size* bytes when they are unpacked."""
    if algorithm == "zlib":
        packer = zlib.compressobj(9)
        first = packer.compress(bytes(MEGA)) + packer.flush(zlib.Z_FULL_FLUSH)
        more = packer.compress(bytes(MEGA)) + packer.flush(zlib.Z_FULL_FLUSH)
        return first + more * (size // MEGA - 1)
    zstd = zstandard()
    options = {zstd.CompressionParameter.window_log: 27}
    packer = zstd.ZstdCompressor(options=options)
    return b"".join(packer.compress(bytes(MEGA)) for _ in range(size // MEGA)) + packer.flush()


def zstandard():
    try:
        return importlib.import_module("compression.zstd")
    except ImportError:
        return importlib.import_module("backports.zstd")


@algorithms
def test_a_bomb_would_be_large(algorithm):
    small = bomb(algorithm, 16 * MEGA)
    assert len(small) < MEGA / 10
    if algorithm == "zlib":
        assert len(zlib.decompressobj().decompress(small, 16 * MEGA)) == 16 * MEGA
    else:
        assert len(zstandard().decompress(small)) == 16 * MEGA


@pytest.mark.slow
@algorithms
def test_a_bomb_takes_no_memory_in_any_language(algorithm):
    script = """
        import resource, sys, time
        from codec.test_compression import bomb, ALGORITHMS
        from llmcache.codec.compression import decompress
        name = sys.argv[1]
        packed = bomb(name)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        try:
            decompress(ALGORITHMS[name], packed, 8 << 20)
        except ValueError:
            took = time.perf_counter() - started
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, took)
    """
    kilobytes, seconds = run(script, algorithm).split()
    assert int(kilobytes) < 70 * 1024
    assert float(seconds) < 0.5


def test_zstd_that_is_missing_is_asked_for_by_its_command(no_zstd):
    with pytest.raises(MissingExtra) as caught:
        llm_cached(compress="zstd")
    assert str(caught.value) == 'compress="zstd" needs: pip install "llmcache[zstd]"'
    assert isinstance(caught.value, ImportError)
    with pytest.raises(MissingExtra):
        llmcache.configure(compress="zstd")


@worlds
def test_auto_is_zlib_where_there_is_no_zstd(world, no_zstd):
    assert check_compression("auto") == "zlib"
    upstream = Upstream(world, TEXT, compress="auto")
    upstream.ask()
    assert upstream.ask() == TEXT
    assert (upstream.calls, upstream.stored()[23]) == (1, ZLIB)


def test_auto_is_zstd_where_there_is_one():
    assert check_compression("auto") == "zstd"


@worlds
def test_what_zstd_wrote_is_a_miss_where_there_is_none(world, monkeypatch):
    other = Upstream(world, TEXT, compress="zstd")
    other.ask()
    upstream = Upstream(world, TEXT)
    upstream.plant(other.stored())
    for name in ("compression", "compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    assert upstream.ask() == TEXT
    assert (upstream.calls, upstream.stats.corrupt) == (1, 0)


@pytest.mark.parametrize("chosen", [True, False, 0, 1, "", "gzip", "ZLIB", b"zlib", ["zlib"]])
def test_anything_else_is_no_algorithm(chosen):
    with pytest.raises(ConfigurationError, match="compress"):
        llm_cached(compress=chosen)
    assert check_compression(None) is None


@algorithms
def test_an_entry_that_is_longer_than_the_function_reads_is_unreadable(algorithm):
    data = Frame(max_plain=10**6, compress=algorithm).seal(entry(), b"a" * 10**6, DIGEST)
    assert Frame(max_plain=10**6).unseal(bytes(data), DIGEST)[1] == b"a" * 10**6
    with pytest.raises(UnreadableEntry):
        Frame(max_plain=10**6 - 1).unseal(bytes(data), DIGEST)


@algorithms
def test_packed_bytes_that_are_none_are_corrupt(algorithm):
    with pytest.raises(CorruptEntry):
        Frame(max_plain=100).unseal(entry_with(b"rubbish", algorithm, 7, DIGEST), DIGEST)
    with pytest.raises(CorruptEntry):
        Frame(max_plain=100).unseal(entry_with(b"", algorithm, 0, DIGEST), DIGEST)


def test_zstd_is_looked_for_once(monkeypatch):
    number, packed = compress(bytes(100), "zstd")
    looked = []

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            looked.append(name)

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    for _ in range(3):
        decompress(number, packed, 100)
    assert looked == []
