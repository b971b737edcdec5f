"""Encrypted entries say nothing without their key, and are read only as they were written."""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import sys
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twins import worlds

import llmcache
from codec.planting import OpenStore, Upstream, entry, sealed
from codec.samples import Answer, Choice
from llmcache import ConfigurationError, MissingExtra, llm_cached
from llmcache.codec.encryption import Keyring, check_encryption, check_secret
from llmcache.codec.frame import CorruptEntry, Frame, UnreadableEntry
from llmcache.codec.tree import PLAIN

KEY, OTHER, THIRD = bytes(range(32)), bytes(range(100, 132)), bytes(range(50, 66))
DIGEST, ANOTHER = bytes(range(32)), bytes(range(1, 33))
FLAGS, OWNER, METADATA = 21, 68, 100
PAYLOAD = b'"what was answered"'


def frame(*keys, compress=None):
    keyring = Keyring(keys) if keys else None
    return Frame(max_plain=1 << 20, keyring=keyring, compress=compress)


def rechecked(data):
    """Return changed bytes with the checksum that is right for them."""
    return hashlib.sha256(data[16:]).digest()[:16] + data[16:]


@given(data=st.binary(), context=st.binary(), keys=st.permutations([KEY, OTHER, THIRD]))
def test_what_is_encrypted_comes_back(data, context, keys):
    ring = Keyring(keys)
    written = ring.encrypt(data, context)
    assert Keyring(keys[:1]).decrypt(written, context) == data
    assert Keyring(reversed(keys)).decrypt(written, context) == data
    with pytest.raises(LookupError):
        Keyring(keys[1:]).decrypt(written, context)
    with pytest.raises(ValueError, match="changed"):
        ring.decrypt(written, context + b"\0")


@pytest.mark.parametrize("length", [16, 24, 32])
def test_a_key_may_be_bytes_or_their_base64(length):
    key = bytes(range(0xE0, 0xE0 + length)).replace(b"\xe1", b"\xff")
    for written in (base64.b64encode(key), base64.urlsafe_b64encode(key)):
        text = written.decode()
        assert check_encryption(text) == Keyring([key])
        assert check_encryption([text]).decrypt(Keyring([key]).encrypt(b"a", b""), b"") == b"a"
    assert check_encryption(key) == check_encryption([key]) == check_encryption((key, key))


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"canary",
        bytes(31),
        bytes(33),
        "canary",
        "",
        "canary with spaces and ümlauts",
        "canary+/-_" * 4,
        base64.b64encode(bytes(20)).decode(),
        bytearray(32),
        [],
        (),
        [b"canary"],
        [KEY, b"canary"],
        [None],
        [32],
    ],
    ids=repr,
)
def test_anything_else_is_no_key_and_is_not_repeated(wrong):
    with pytest.raises(ConfigurationError, match="encrypt=") as caught:
        llm_cached(encrypt=wrong)
    shown = "".join(traceback.format_exception(caught.value))
    assert "canary" not in shown.rpartition("ConfigurationError")[2]
    with pytest.raises(ConfigurationError):
        llmcache.configure(encrypt=wrong)


@pytest.mark.parametrize("wrong", [32, 3.5, True])
def test_what_cannot_be_keys_is_refused(wrong):
    with pytest.raises((ConfigurationError, TypeError)):
        llm_cached(encrypt=wrong)


def test_there_may_be_no_key():
    assert check_encryption(None) is None
    assert check_secret(None) is None


def test_a_nonce_is_never_used_twice():
    ring = Keyring([KEY])
    written = {ring.encrypt(b"", b"") for _ in range(10_000)}
    assert len({data[4:16] for data in written}) == 10_000


def test_keys_can_be_told_apart_but_not_read():
    ring = Keyring([KEY, OTHER])
    assert ring == Keyring([KEY, OTHER])
    assert hash(ring) == hash(Keyring([KEY, OTHER]))
    assert ring != Keyring([OTHER, KEY])
    assert ring != Keyring([KEY])
    assert ring != [KEY, OTHER]
    assert repr(ring) == "<2 keys>"


@worlds
@pytest.mark.parametrize("compress", [None, "zlib", "zstd"])
def test_an_encrypted_answer_comes_back(world, compress):
    answer = Answer(id="canary", choices=[Choice(index=n) for n in range(2000)])
    upstream = Upstream(world, answer, encrypt=KEY, compress=compress)
    assert upstream.ask() == answer
    assert upstream.ask() == answer
    assert upstream.calls == 1
    assert b"canary" not in upstream.stored()
    assert b"Choice" not in upstream.stored()


@worlds
def test_keys_are_changed_without_losing_an_entry(world):
    old = Upstream(world, "old", encrypt=KEY)
    old.ask()
    changing = Upstream(world, "new", encrypt=[OTHER, KEY])
    changing.plant(old.stored())
    assert changing.ask() == "old"
    changing.function.cache_clear()
    changing.ask()
    assert frame(OTHER).unseal(changing.stored(), changing.digest)
    with pytest.raises(UnreadableEntry):
        frame(KEY).unseal(changing.stored(), changing.digest)
    changed = Upstream(world, "newest", encrypt=[OTHER])
    changed.plant(changing.stored())
    assert changed.ask() == "new"
    changed.plant(old.stored())
    assert changed.ask() == "newest"
    assert (changed.stats.corrupt, changed.stats.errors) == (0, 0)


@worlds
@pytest.mark.parametrize("keys", [OTHER, [OTHER, THIRD], None])
def test_another_key_is_a_miss_and_no_corruption(world, keys):
    old = Upstream(world, "old", encrypt=KEY)
    old.ask()
    upstream = Upstream(world, "new", encrypt=keys)
    upstream.plant(old.stored())
    assert upstream.ask() == "new"
    assert upstream.ask() == "new"
    assert (upstream.calls, upstream.stats.corrupt, upstream.stats.errors) == (1, 0, 0)


@worlds
@pytest.mark.parametrize("compress", [None, "zlib", "zstd"])
def test_an_entry_that_is_not_encrypted_is_not_believed(world, compress):
    forged = Upstream(world, "forged " * 5000, compress=compress)
    forged.ask()
    upstream = Upstream(world, "real", encrypt=KEY)
    upstream.plant(forged.stored())
    assert upstream.ask() == "real"
    assert upstream.ask() == "real"
    assert (upstream.calls, upstream.stats.corrupt) == (1, 0)


@pytest.mark.parametrize("compress", [None, "zlib"])
def test_an_entry_with_its_flag_taken_away_is_not_believed(compress):
    data = bytearray(sealed(entry(codec=PLAIN), PAYLOAD, DIGEST, keyring=Keyring([KEY])))
    data[FLAGS] = 0
    with pytest.raises((UnreadableEntry, CorruptEntry)):
        frame(KEY).unseal(rechecked(bytes(data)), DIGEST)
    with pytest.raises((UnreadableEntry, CorruptEntry)):
        frame().unseal(rechecked(bytes(data)), DIGEST)


def test_an_entry_with_a_flag_put_on_is_not_believed():
    data = bytearray(sealed(entry(codec=PLAIN), PAYLOAD, DIGEST))
    data[FLAGS] = 2
    with pytest.raises((UnreadableEntry, CorruptEntry)):
        frame(KEY).unseal(rechecked(bytes(data)), DIGEST)


def test_every_byte_is_bound_to_the_key():
    data = sealed(entry(metadata=b'{"function":"f"}'), PAYLOAD, DIGEST, keyring=Keyring([KEY]))
    reader = frame(KEY)
    assert reader.unseal(data, DIGEST)[1] == PAYLOAD
    for place in range(16, len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        digest = bytes(changed[OWNER:METADATA])
        with pytest.raises((CorruptEntry, UnreadableEntry)):
            reader.unseal(rechecked(bytes(changed)), digest)
    for end in range(METADATA, len(data)):
        with pytest.raises((CorruptEntry, UnreadableEntry)):
            reader.unseal(rechecked(data[:end]), DIGEST)


def test_parts_of_two_entries_do_not_fit_together():
    ring = Keyring([KEY])
    one = sealed(entry(metadata=b"{1}"), PAYLOAD, DIGEST, keyring=ring)
    for other in (
        sealed(entry(metadata=b"{1}"), PAYLOAD, ANOTHER, keyring=ring),
        sealed(entry(metadata=b"{2}"), PAYLOAD, DIGEST, keyring=ring),
        sealed(entry(metadata=b"{1}", created=1.0), PAYLOAD, DIGEST, keyring=ring),
        sealed(entry(metadata=b"{1}", flags=1), PAYLOAD, DIGEST, keyring=ring),
        sealed(entry(metadata=b"{1}", codec=0), PAYLOAD, DIGEST, keyring=ring),
    ):
        start = METADATA + 3
        for mixed in (one[:start] + other[start:], other[:start] + one[start:]):
            for digest in (DIGEST, ANOTHER):
                with pytest.raises(CorruptEntry):
                    frame(KEY).unseal(rechecked(mixed), digest)


def test_an_empty_answer_can_be_encrypted():
    data = sealed(entry(), b"", DIGEST, keyring=Keyring([KEY]))
    assert frame(KEY).unseal(data, DIGEST)[1] == b""


def test_two_entries_of_one_answer_look_different():
    one, two = (sealed(entry(), PAYLOAD, DIGEST, keyring=Keyring([KEY])) for _ in range(2))
    assert one != two
    assert one[METADATA + 18 :] != two[METADATA + 18 :]


@worlds
def test_a_secret_makes_keys_of_its_own(world):
    keys = {
        Upstream(world, secret=secret).function.cache.key("prompt")
        for secret in (None, bytes(16), b"\1" * 16, "sixteen letters!", b"sixteen letters!")
    }
    assert len(keys) == 4


@worlds
def test_an_entry_of_another_secret_is_never_looked_up(world):
    store = OpenStore()
    for secret in (None, bytes(16), KEY):
        upstream = Upstream(world, f"answer {secret!r}", secret=secret, backend=store)
        assert upstream.ask() == f"answer {secret!r}"
        llmcache.reset_stats()
    assert len(store.held) == 3


@pytest.mark.parametrize(
    "wrong", [b"", b"canary", "canary", bytes(15), "ü" * 7, 5, [bytes(16)], True], ids=repr
)
def test_anything_else_is_no_secret_and_is_not_repeated(wrong):
    with pytest.raises(ConfigurationError, match="secret=") as caught:
        llm_cached(secret=wrong)
    assert "canary" not in str(caught.value)


def test_a_secret_may_be_text():
    assert check_secret("ü" * 8) == check_secret(("ü" * 8).encode())


def test_cryptography_that_is_missing_is_asked_for_by_its_command(monkeypatch):
    for name in list(sys.modules):
        if name.partition(".")[0] == "cryptography":
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra) as caught:
        llm_cached(encrypt=KEY)
    assert str(caught.value) == 'encrypt= needs: pip install "llmcache[encryption]"'
    assert llm_cached(encrypt=None, secret=bytes(16))


def shown(thing, depth=5):
    """Yield the repr and the text of a thing and of all that it holds."""
    yield repr(thing)
    yield str(thing)
    if depth:
        held = list(vars(thing).values()) if hasattr(thing, "__dict__") else []
        held += [getattr(thing, name, None) for name in getattr(type(thing), "__slots__", ())]
        for inner in held:
            if type(inner).__module__.startswith("llmcache"):
                yield from shown(inner, depth - 1)


@worlds
def test_keys_and_secrets_are_in_nothing_that_is_shown(world, caplog):
    caplog.set_level(logging.DEBUG)
    key, secret = b"canary-of-the-key-of-32-bytes!!!", b"canary-of-the-secret"
    upstream = Upstream(world, object(), encrypt=[key], secret=secret)
    upstream.ask()
    upstream.plant(b"rubbish")
    upstream.ask()
    seen = [*shown(upstream.function._self_engine), caplog.text, repr(llmcache.stats())]
    with llmcache.configure(encrypt=key, secret=secret) as configured:
        seen += shown(configured)
        seen += shown(llmcache.process.current)
    with pytest.raises(ValueError, match="changed") as caught:
        Keyring([key]).decrypt(Keyring([key]).encrypt(b"", b""), b"other")
    seen += traceback.format_exception(caught.value)[-1:]
    assert caught.value.__suppress_context__
    assert len(seen) > 20
    for text in seen:
        assert "canary" not in text
        assert key.hex() not in text
        assert base64.b64encode(key).decode() not in text


def canaries(text):
    """Return the forms in which a text could be found again."""
    raw = text.encode()
    return {raw, raw.hex().encode(), base64.b64encode(raw)[:-4], raw.decode().encode("utf-16-le")}


@worlds
@pytest.mark.parametrize("encrypt", [None, KEY], ids=["plain", "encrypted"])
@pytest.mark.parametrize("compress", [None, "zlib"])
def test_no_canary_is_found_again(world, encrypt, compress, caplog):
    caplog.set_level(logging.DEBUG)
    asked, answered, hidden = (secrets.token_hex(12) for _ in range(3))
    store = OpenStore()
    options = {"backend": store, "encrypt": encrypt, "compress": compress, "secret": bytes(16)}

    def complete(messages, headers=None, **extra):
        return Answer(id=answered, content=[answered * 2000, {"a": (answered,)}], **{answered: 1})

    def refused(text):
        return [answered, object()]

    def failing(text):
        raise RuntimeError(hidden)

    class Broken(OpenStore):
        def set(self, key, data, ttl, within=None):
            raise OSError(f"{hidden} {data!r}")

        def get(self, key, within=None):
            raise OSError(hidden)

    cached = world.cached(complete, name="complete", **options)
    for _ in range(3):
        world.run(cached([{"role": "user", "content": asked}], headers={"x": asked}, more=(asked,)))
    assert cached.cache.stats().hits == 2
    key, data = next(iter(store.held.items()))
    store.set(key, bytes(data), 60.0)
    world.run(cached([{"role": "user", "content": asked}], headers={"x": asked}, more=(asked,)))
    store.set(key, bytes(data[:-1]), 60.0)
    world.run(cached([{"role": "user", "content": asked}], headers={"x": asked}, more=(asked,)))
    world.run(cached([asked, object()]))
    world.run(world.cached(refused, name="refused", **options)(asked))
    with pytest.raises(RuntimeError):
        world.run(world.cached(failing, name="failing", **options)(asked))
    broken = Broken()
    world.run(world.cached(complete, name="broken", **options | {"backend": broken})([asked]))
    assert len(caplog.records) >= 3
    everywhere = [*caplog.text.splitlines(), *store.held, *broken.held]
    for form in canaries(asked) | canaries(hidden):
        assert not any(form.decode("latin-1") in line for line in everywhere)
        assert not any(form in data for data in store.held.values())
    for form in canaries(answered):
        assert not any(form.decode("latin-1") in line for line in everywhere)
        if encrypt:
            assert not any(form in data for data in store.held.values())
    if not encrypt and not compress:
        assert any(answered.encode() in data for data in store.held.values())
