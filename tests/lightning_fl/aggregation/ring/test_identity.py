import base64
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.aggregation.ring.identity import SUFFIX, Identity, fingerprint, make, verify
from lightning_fl.aggregation.ring.masks import MaskKey, digest_of_terms, site_mask
from lightning_fl.errors import ConfigError, TooFewSitesError
from lightning_fl.hospital.make_identity import main
from lightning_fl.wire.messages import Message, MessageError
from tests.lightning_fl.aggregation.hosts import (
    ROUND,
    RUN,
    Hosts,
    RingByHand,
    altered,
    join_hosts,
    make_hosts,
    name_of,
    random_updates,
)

MEDDLED = 31
"""A round in which a ring goes round as B, A, C."""


def make_all(folder: Path, sites: str = "ABC") -> dict[str, str]:
    """Identities in a folder, and the pins that belong to them."""
    return {site: make(folder / f"{site}{SUFFIX}") for site in sites}


def federation(length: int = 20, round_: int = 1, **settings: Any) -> Hosts:
    aggregator = CyclicCKKS(**settings)
    updates = random_updates(3, length)
    return join_hosts(aggregator, make_hosts(aggregator, updates, round_=round_))


# ---------------------------------------------------------------------- the file


def test_the_fingerprint_is_the_public_key(tmp_path: Path) -> None:
    made = make(tmp_path / "A.pem")
    public = Identity(tmp_path / "A.pem").public
    assert made == fingerprint(public) == public.hex()
    assert len(public) == 32


def test_only_its_owner_can_read_an_identity(tmp_path: Path) -> None:
    make(tmp_path / "A.pem")
    assert stat.S_IMODE((tmp_path / "A.pem").stat().st_mode) == 0o600


def test_an_identity_is_never_replaced(tmp_path: Path) -> None:
    make(tmp_path / "A.pem")
    before = (tmp_path / "A.pem").read_bytes()
    with pytest.raises(FileExistsError):
        make(tmp_path / "A.pem")
    assert (tmp_path / "A.pem").read_bytes() == before


def test_two_identities_differ(tmp_path: Path) -> None:
    assert len(set(make_all(tmp_path).values())) == 3


def test_a_missing_file_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    file = tmp_path / "A.pem"
    with pytest.raises(ConfigError, match=rf"python -m lightning_fl.hospital.make_identity {file}"):
        Identity(file)


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "A.pem").write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read"):
        Identity(tmp_path / "A.pem")


def pem_of(key: Any, encryption: serialization.KeySerializationEncryption) -> bytes:
    found = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    return bytes(found)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    pem = pem_of(X25519PrivateKey.generate(), serialization.NoEncryption())
    (tmp_path / "A.pem").write_bytes(pem)
    with pytest.raises(ConfigError, match="holds no Ed25519 key"):
        Identity(tmp_path / "A.pem")


def test_a_key_behind_a_password_is_refused(tmp_path: Path) -> None:
    encryption = serialization.BestAvailableEncryption(b"secret")
    (tmp_path / "A.pem").write_bytes(pem_of(Ed25519PrivateKey.generate(), encryption))
    with pytest.raises(ConfigError, match="cannot be read"):
        Identity(tmp_path / "A.pem")


def test_the_command_prints_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["identity", str(tmp_path / "A.pem")])
    main()
    assert capsys.readouterr().out.strip() == fingerprint(Identity(tmp_path / "A.pem").public)


def test_the_command_refuses_a_file_that_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "A.pem")
    monkeypatch.setattr(sys, "argv", ["identity", str(tmp_path / "A.pem")])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert "exists and is never replaced" in capsys.readouterr().err


# ---------------------------------------------------------------------- the signature


STATEMENT = ("mask key", "run", "A", 3)


def test_a_signature_of_this_statement_is_accepted(tmp_path: Path) -> None:
    pin = make(tmp_path / "A.pem")
    verify(pin, "A", STATEMENT, Identity(tmp_path / "A.pem").sign(STATEMENT))


@pytest.mark.parametrize(
    "statement",
    [
        ("mask key", "another", "A", 3),
        ("mask key", "run", "B", 3),
        ("mask key", "run", "A", 4),
        ("mask key", "run", "A", "3"),
        ("mask key", "runA", "", 3),
        ("mean", "run", "A", 3),
        ("mask key", "run", "A", 3, None),
    ],
)
def test_a_signature_of_another_statement_is_refused(
    tmp_path: Path, statement: tuple[Any, ...]
) -> None:
    pin = make(tmp_path / "A.pem")
    signed = Identity(tmp_path / "A.pem").sign(STATEMENT)
    with pytest.raises(MessageError, match="from site 'A' is not signed by the identity"):
        verify(pin, "A", statement, signed)


@pytest.mark.parametrize("change", [lambda s: "", lambda s: s[4:], lambda s: "AAAA" + s[4:]])
def test_a_damaged_signature_is_refused(tmp_path: Path, change: Any) -> None:
    pin = make(tmp_path / "A.pem")
    signed = Identity(tmp_path / "A.pem").sign(STATEMENT)
    with pytest.raises(MessageError, match="is not signed by the identity"):
        verify(pin, "A", STATEMENT, signed | {"signature": change(signed["signature"])})


@pytest.mark.parametrize(
    "signed", [None, 3, [], {}, {"identity": "00"}, {"signature": 2}, {"signature": "?"}, "xy"]
)
def test_what_is_no_signature_is_refused(tmp_path: Path, signed: Any) -> None:
    with pytest.raises(MessageError, match="Site 'A' has not signed its mask key"):
        verify(make(tmp_path / "A.pem"), "A", STATEMENT, signed)


def test_a_good_signature_of_another_identity_is_refused(tmp_path: Path) -> None:
    pins = make_all(tmp_path, "AB")
    signed = Identity(tmp_path / f"B{SUFFIX}").sign(STATEMENT)
    with pytest.raises(MessageError, match=f"the identity {pins['A'][:16]}.*someone else"):
        verify(pins["A"], "A", STATEMENT, signed)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_pinned_key_that_is_no_ed25519_key_is_refused(size: int) -> None:
    public = bytes(size)
    signed = {"signature": base64.b64encode(bytes(64)).decode()}
    with pytest.raises(MessageError, match=r"is not signed by the identity|no pinned identity"):
        verify(fingerprint(public), "A", STATEMENT, signed)


# ---------------------------------------------------------------------- in a ring


def swap(hosts: Hosts, victim: str, members: dict[str, Any]) -> None:
    """Let the coordinator tell `victim` something else about some members."""

    def on_request(op: str, site: str, request: bytes) -> list[bytes]:
        if site != victim or op not in ("ring_open", "ring_start"):
            return [request]
        info = Message.decode(request).info
        said = {name: info["members"][name] | new for name, new in members.items()}
        return [altered(request, info=info | {"members": info["members"] | said})]

    hosts.transport.on_request = on_request


def test_a_ring_of_pinned_sites_gives_the_mean(tmp_path: Path) -> None:
    hosts = federation(pins=make_all(tmp_path), identities=str(tmp_path))
    mean = torch.stack([host.vector for host in hosts.hosts.values()]).double().mean(0)
    torch.testing.assert_close(hosts.mean().mean, mean.float(), rtol=0, atol=2**-23)


@pytest.mark.parametrize("victim", ["A", "B", "C"])
def test_a_swapped_mask_key_is_refused_by_a_pinned_ring(tmp_path: Path, victim: str) -> None:
    hosts = federation(pins=make_all(tmp_path), identities=str(tmp_path))
    peer = "B" if victim != "B" else "C"
    swap(hosts, victim, {peer: {"mask_key": MaskKey().public.hex()}})
    with pytest.raises(TooFewSitesError, match=f"{victim}: .*from site '{peer}' is not signed"):
        hosts.mean()


def test_a_swapped_key_signed_by_another_identity_is_refused_by_a_pinned_ring(
    tmp_path: Path,
) -> None:
    hosts = federation(pins=make_all(tmp_path), identities=str(tmp_path))
    (tmp_path / "mine").mkdir()
    make(tmp_path / "mine" / "B.pem")
    mine = Identity(tmp_path / "mine" / "B.pem")
    stated = {"mask_key": MaskKey().public.hex(), **mine.sign(STATEMENT)}
    swap(hosts, "A", {"B": stated})
    with pytest.raises(TooFewSitesError, match=r"from site 'B' is not signed.*someone else"):
        hosts.mean()


def test_a_pinned_site_cannot_leave_its_signature_out(tmp_path: Path) -> None:
    hosts = federation(pins=make_all(tmp_path), identities=str(tmp_path))
    swap(hosts, "A", {"B": {"signature": ""}})
    with pytest.raises(TooFewSitesError, match="someone else may have made it"):
        hosts.mean()


def test_a_signed_key_of_an_earlier_run_is_refused_by_a_pinned_ring(tmp_path: Path) -> None:
    pins = make_all(tmp_path)
    aggregator = CyclicCKKS(pins=pins, identities=str(tmp_path))
    before = make_hosts(aggregator, random_updates(3, 20), run="before", round_=ROUND)
    joined = RingByHand(before, "ABC").join().members["B"]
    hosts = federation(pins=pins, identities=str(tmp_path))
    swap(hosts, "A", {"B": joined})
    with pytest.raises(TooFewSitesError, match="is not signed by the identity"):
        hosts.mean()


def test_sites_that_are_not_pinned_cannot_join_those_that_are(tmp_path: Path) -> None:
    """Else a coordinator names sites of its own and knows every mask of the one that is real."""
    aggregator = CyclicCKKS(pins=make_all(tmp_path), identities=str(tmp_path))
    hosts = make_hosts(aggregator, random_updates(3, 20), round_=ROUND)
    invented = {name: {"mask_key": MaskKey().public.hex()} for name in ("Y", "Z")}
    by_hand = RingByHand(hosts, "AYZ")
    joined = by_hand.ask("ring_join", "A", by_hand.joining("A")).info
    by_hand.members = {"A": joined} | invented
    with pytest.raises(MessageError, match="Site 'Y' has no pinned identity"):
        by_hand.open()


def what_a_meddler_reads(hosts: Hosts) -> torch.Tensor:
    """A's update, as read by a coordinator that works with the initiator.

    It tells A mask keys of its own in place of the others', sends A an encryption of nothing and
    takes A's masks, which it knows, off what A passes on.
    """
    mine = MaskKey()
    by_hand = RingByHand(hosts.hosts, "BAC", round_=MEDDLED).join()
    hers = bytes.fromhex(by_hand.members["A"]["mask_key"])
    by_hand.open()
    said = {name: by_hand.members[name] | {"mask_key": mine.public.hex()} for name in "BC"}
    told = by_hand.members | said
    by_hand.ask("ring_start", "A", altered(by_hand.opening("A"), info={"members": told}))

    initiator: Any = hosts.hosts["B"].operations["ring_pass"]
    state = initiator.__self__.state
    parameters, key = state.ring.plan.parameters, state.key
    nothing = key.encrypt(np.zeros(parameters.degree))
    data = torch.frombuffer(bytearray(nothing[0]), dtype=torch.uint8)
    arriving = by_hand.message("A", sender="B", tensors={"block": data})
    answer = by_hand.ask("ring_pass", "A", by_hand.tagged(arriving))

    block = bytes(answer.tensors["block"].numpy())
    reals = key.decrypt(key.context.from_bytes([block]))
    terms = (state.ring.terms, digest_of_terms(told))
    labels = (RUN, MEDDLED, by_hand.ring, by_hand.context, *terms)
    masks = {peer: mine.pair_key(hers, *labels, *sorted(("A", peer))) for peer in "BC"}
    bits = parameters.word_bits
    mask = site_mask("A", masks, 0, len(reals), bits)
    words = (np.rint(reals).astype(np.int64) + 2 ** (bits - 1) - mask) % 2**bits
    integers = words[: state.ring.plan.length] - parameters.limit
    return torch.from_numpy(state.ring.plan.grid.to_values(integers, 0)).float()


def test_without_pins_a_swapped_key_goes_unnoticed_and_gives_a_site_away() -> None:
    hosts = federation(round_=MEDDLED)
    found = what_a_meddler_reads(hosts)
    torch.testing.assert_close(found, hosts.hosts["A"].vector, rtol=0, atol=2**-24)


def test_with_pins_the_same_meddler_is_refused(tmp_path: Path) -> None:
    hosts = federation(round_=MEDDLED, pins=make_all(tmp_path), identities=str(tmp_path))
    with pytest.raises(MessageError, match="is not signed by the identity"):
        what_a_meddler_reads(hosts)


def test_no_message_holds_an_identity_key_or_a_mask_key(tmp_path: Path) -> None:
    hosts = federation(pins=make_all(tmp_path), identities=str(tmp_path))
    hosts.mean()
    sent = [e.request + (e.answer or b"") for e in hosts.transport.exchanges]
    everything = b"".join(sent)
    for site in "ABC":
        private = Identity(tmp_path / f"{site}{SUFFIX}")._key.private_bytes_raw()
        member: Any = hosts.hosts[site].operations["ring_pass"]
        mask = member.__self__._mask_key._private.private_bytes_raw()
        for secret in (private, mask):
            assert secret not in everything
            assert secret.hex().encode() not in everything
        public = member.__self__._mask_key.public
        assert public.hex().encode() in everything  # the search finds what is there


def test_a_site_whose_identity_is_missing_says_how_to_make_it(tmp_path: Path) -> None:
    pins = make_all(tmp_path)
    (tmp_path / f"C{SUFFIX}").unlink()
    hosts = federation(pins=pins, identities=str(tmp_path))
    with pytest.raises(TooFewSitesError, match=f"C: .*{name_of(2)}{SUFFIX} cannot be read"):
        hosts.mean()


def test_a_site_checks_its_identity_before_anything_is_trained(tmp_path: Path) -> None:
    pins = make_all(tmp_path)
    host = federation().hosts["A"]
    CyclicCKKS(pins=pins, identities=str(tmp_path)).check_site(host)
    with pytest.raises(ConfigError, match=r"is pinned to the identity .* but has none"):
        CyclicCKKS(pins=pins).check_site(host)
    with pytest.raises(ConfigError, match="but has another one"):
        CyclicCKKS(pins=pins | {"A": pins["B"]}, identities=str(tmp_path)).check_site(host)
    with pytest.raises(ConfigError, match="cannot be read"):
        CyclicCKKS(pins=pins, identities=str(tmp_path / "none")).check_site(host)
