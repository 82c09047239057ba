"""Batches, progress and certificates by both clients, from real services, also where connections break."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from certify import (
    AsyncClient,
    BackendUnavailable,
    BudgetSpent,
    CertifyAnswer,
    Client,
    Progress,
    Reply,
    RequestError,
    Retries,
    SignedCertificate,
    Unauthorized,
    verify,
)
from certify.envelope import opened, signers
from tests import pictures
from tests.servers import Process, real_process
from tests.service.cutting import cutting

pytestmark = pytest.mark.slow

QUICK = Retries(attempts=4, first_contact_attempts=2, first_pause=0.01, longest_pause=0.02, longest_retry_after=0.01)
FIELDS: dict[str, Any] = {"samples": 640, "sigmas": [0.25, 1.0]}
both = pytest.mark.parametrize("kind", ["sync", "async"])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("client")
    with real_process(folder / "log") as process:
        yield process


def many(kind: str, url: str, images: Iterable[Any], at_once: int = 32, **fields: Any) -> list[Reply]:
    """By either client; the one that awaits is given what comes by and by."""
    fields = {**FIELDS, **fields}
    if kind == "sync":
        with Client(url, retries=QUICK) as client:
            return list(client.certify_many(images, at_once=at_once, **fields))

    async def coming() -> AsyncIterator[Any]:
        for image in images:
            await asyncio.sleep(0)
            yield image

    async def wait() -> list[Reply]:
        async with AsyncClient(url, retries=QUICK) as client:
            return [reply async for reply in client.certify_many(coming(), at_once=at_once, **fields)]

    return asyncio.run(wait())


def watch(kind: str, url: str, image: Any, **fields: Any) -> tuple[list[Progress], CertifyAnswer]:
    seen: list[Progress] = []
    if kind == "sync":
        with Client(url, retries=QUICK) as client:
            return seen, client.certify(image, progress=seen.append, **fields)

    async def wait() -> CertifyAnswer:
        async with AsyncClient(url, retries=QUICK) as client:
            return await client.certify(image, progress=seen.append, **fields)

    return seen, asyncio.run(wait())


def facts(answer: CertifyAnswer | None) -> dict[str, Any]:
    assert answer is not None
    return answer.model_dump(mode="json", exclude={"id", "timing"})


@both
def test_each_of_many_is_answered_as_it_is_alone_and_a_bad_one_spoils_itself(
    kind: str, service: Process, tmp_path: Path
) -> None:
    good = [pictures.png(number) for number in range(38)]
    path = tmp_path / "a.png"
    path.write_bytes(good[7])
    images = [*good[:7], path, *good[8:20], b"no picture", *good[20:], tmp_path / "absent.png"]
    replies = sorted(many(kind, service.url, images, at_once=16), key=lambda reply: reply.index)
    assert [reply.index for reply in replies] == list(range(40))
    assert all(reply.image is images[reply.index] for reply in replies)
    wrong = {reply.index: reply.error for reply in replies if reply.answer is None}
    assert {index: error.code for index, error in wrong.items() if error} == {
        20: "unsupported_format",
        39: "missing_field",
    }
    assert wrong[20] is not None and wrong[20].field == "image" and wrong[20].request_id
    with pytest.raises(RequestError, match="expected PNG, JPEG or WebP"):
        replies[20].certified()
    with Client(service.url) as client:
        for index in (0, 7, 21, 38):
            assert facts(replies[index].certified()) == facts(client.certify(images[index], **FIELDS))


@both
def test_what_a_lost_connection_left_unanswered_is_asked_again(kind: str, service: Process) -> None:
    images = [pictures.png(number) for number in range(12)]
    whole = many(kind, service.url, images)
    with cutting(service.port, 5_000, 3_000, None) as proxy:
        replies = many(kind, proxy.url, images)
        assert proxy.connections == 3
    assert sorted(reply.index for reply in replies) == list(range(12))
    by_index = {reply.index: facts(reply.answer) for reply in whole}
    assert all(facts(reply.answer) == by_index[reply.index] for reply in replies)
    with cutting(service.port, 1_000) as proxy, pytest.raises(BackendUnavailable, match="tried 4 times"):
        many(kind, proxy.url, images)


@both
def test_images_are_taken_as_they_are_needed_and_who_leaves_frees_the_places(kind: str, tmp_path: Path) -> None:
    taken = itertools.count()
    images = (pictures.png(number % 50) for number in taken)
    with real_process(tmp_path / "log", fake_delay_seconds=0.02) as slow:
        if kind == "sync":
            with Client(slow.url) as client:
                replies = client.certify_many(images, at_once=8, **FIELDS)
                assert [next(replies).certified().outcome for _ in range(10)]
                replies.close()
        else:

            async def leave() -> None:
                async with AsyncClient(slow.url) as client:
                    async with aclosing(client.certify_many(images, at_once=8, **FIELDS)) as replies:
                        assert [(await anext(replies)).certified().outcome for _ in range(10)]

            asyncio.run(leave())
        slow.wait_for("certify_in_flight", 0)
    assert next(taken) == 16  # two requests' images


@both
def test_a_batch_that_is_too_large_is_halved_until_it_fits(kind: str, tmp_path: Path) -> None:
    images = [pictures.png(number) for number in range(10)]
    huge = pictures.png() + bytes(4_000)
    with real_process(tmp_path / "log", max_body_bytes=3_000, max_batch=4) as small:
        replies = many(kind, small.url, [*images, huge])
    assert sorted(reply.index for reply in replies) == list(range(11))
    errors = {reply.index: reply.error.code for reply in replies if reply.error}
    assert errors == {10: "body_too_large"}


@both
def test_what_is_wrong_with_all_ends_them_all(kind: str, service: Process) -> None:
    with pytest.raises(RequestError) as refused:
        many(kind, service.url, [pictures.png()], radius=100)
    assert refused.value.code == "radius_unreachable"
    assert many(kind, service.url, []) == []
    with pytest.raises(ValueError, match="at_once: expected at least 1"):
        many(kind, service.url, [pictures.png()], at_once=0)


@both
def test_progress_grows_and_ends_with_the_answer_that_nobody_watched(kind: str, service: Process) -> None:
    seen, answer = watch(kind, service.url, pictures.png(3), samples=20_000)
    assert [each.samples for each in seen] == sorted({each.samples for each in seen})
    assert [each.radius for each in seen] == sorted(each.radius for each in seen)
    assert (seen[-1].samples, seen[-1].radius, seen[-1].label) == (answer.samples_used, answer.radius, answer.label)
    with Client(service.url) as client:
        assert facts(answer) == facts(client.certify(pictures.png(3), samples=20_000))
    with pytest.raises(RequestError, match="radius: expected at most"):
        watch(kind, service.url, pictures.png(), radius=100)


@both
def test_progress_goes_on_where_a_connection_was_lost(kind: str, tmp_path: Path) -> None:
    with real_process(tmp_path / "log", fake_delay_seconds=0.02) as slow:
        with cutting(slow.port, 2_500, None) as proxy:
            seen, answer = watch(kind, proxy.url, pictures.png(3), samples=10_000)
            assert proxy.connections == 2
    assert [each.samples for each in seen] == sorted({each.samples for each in seen})
    assert seen[-1].samples == answer.samples_used


@both
def test_a_certificate_is_the_services_and_holds(kind: str, service: Process, tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="signs (pip install 'certify[signing]')")
    from certify.service.answering.signing import new_key, read_signer

    def ask(url: str) -> SignedCertificate:
        if kind == "sync":
            with Client(url) as client:
                return client.certificate(pictures.png(), radius=0.1)

        async def wait() -> SignedCertificate:
            async with AsyncClient(url) as client:
                return await client.certificate(pictures.png(), radius=0.1)

        return asyncio.run(wait())

    path = tmp_path / "key.pem"
    path.write_text(new_key())
    with real_process(tmp_path / "log", signing_key_file=path) as signing:
        certificate = ask(signing.url)
        with Client(signing.url) as client:
            answer = client.certify(pictures.png(), radius=0.1, evidence=True)
    payload, written, signatures = opened(certificate.envelope)
    keys = {key.id: key.raw for key in read_signer(path).keys}
    assert signers(written, signatures, keys) == list(keys)
    assert all(check.holds for check in verify.checks(payload, written))
    assert certificate.evidence.model_dump(mode="json") == payload
    assert answer.evidence is not None and answer.evidence.statement == certificate.evidence.statement
    with pytest.raises(RequestError) as refused:
        ask(service.url)
    assert (refused.value.code, refused.value.field) == ("out_of_range", "signed")


@both
def test_a_key_is_sent_and_a_budget_that_is_spent_ends_what_is_left(kind: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"camera {hashlib.sha256(b'secret').hexdigest()} 1400 4\n")
    images = [pictures.png(number) for number in range(8)]
    with real_process(tmp_path / "log", api_keys_file=keys) as guarded:
        with pytest.raises(Unauthorized, match="expected `Bearer KEY`"):
            many(kind, guarded.url, images)
        with Client(guarded.url, key="secret", retries=Retries(attempts=1)) as client:
            replies = list(client.certify_many(images, **FIELDS))
            assert sorted(reply.index for reply in replies) == list(range(8))
            spent = [reply.error for reply in replies if reply.error]  # lines of a request that had answers too
            assert 4 <= len(spent) <= 6  # two a minute, and a minute may end
            assert all(isinstance(error, BudgetSpent) and error.retry_after_seconds for error in spent)
        with Client(guarded.url, key="secret", retries=QUICK) as client, pytest.raises(BudgetSpent, match="camera has"):
            list(client.certify_many(images, **FIELDS))


@both
def test_one_connection_carries_all_that_is_asked_in_turn(kind: str, service: Process) -> None:
    with cutting(service.port, None) as proxy:
        if kind == "sync":
            with Client(proxy.url) as client:
                client.info()
                client.certify(pictures.png(), progress=id, **FIELDS)
                list(client.certify_many([pictures.png()], **FIELDS))
                client.certify(pictures.png(), **FIELDS)
        else:

            async def ask() -> None:
                async with AsyncClient(proxy.url) as client:
                    await client.info()
                    await client.certify(pictures.png(), progress=id, **FIELDS)
                    assert [reply async for reply in client.certify_many([pictures.png()], **FIELDS)]
                    await client.certify(pictures.png(), **FIELDS)

            asyncio.run(ask())
        assert proxy.connections == 1
