"""What certificates cost: evidence and a signature to an answer, a verifier's time, a replay beside the answer itself.

In this process, on the embedded backend and a held-out digit, 10,000 draws. Processor time, so that others' work on the
machine counts less; a replay's is of all its threads.

python -m benchmarks.certificates [--bundle digits] [--rounds 50]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, sentence
from benchmarks.report import spread, table
from benchmarks.served import DIGITS
from certify import verify
from certify.service.answering.certify import Job, answer, prepare, run
from certify.service.answering.driver import Run
from certify.service.answering.evidence import evidence_of, payload_of
from certify.service.answering.replay import planned_again, voted_again
from certify.service.answering.schemas import CertifyFields
from certify.service.answering.seeds import key_from_number
from certify.service.answering.signing import Signer, new_key, read_signer
from certify.service.backends.embedded import EmbeddedBackend
from certify.service.settings import load_settings

__all__ = ("main",)

KEY = key_from_number(0)
SPOT = 44  # chunks: they find a tenth of invented ones in 99 of 100 trials


async def measure(bundle: str, rounds: int) -> list[list[str]]:
    """Rows: what, its goal, its time."""
    settings = load_settings(backend="embedded", bundle=bundle)
    backend = EmbeddedBackend(bundle)
    await backend.open()
    try:
        fields = CertifyFields(evidence=True)
        job = prepare(DIGITS[3].read_bytes(), fields, backend.info(), settings, arrival=time.monotonic(), offline=True)
        await run(job, backend, KEY)  # warms up
        began, whole = time.process_time(), time.perf_counter()
        done = await run(job, backend, KEY)
        cost, waited = time.process_time() - began, time.perf_counter() - whole
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "key.pem"
            path.write_text(new_key())
            signer = read_signer(path)
        rows, envelope = _signing(job, done, signer, rounds)
        rows += _verifying(envelope, signer, rounds)
        rows.append(["the answer's draws themselves", "", f"{cost:.2f} s of processor, {waited:.2f} s"])
        payload = verify.opened(envelope)[0]
        for name, spot in (("replay, all of them", None), (f"replay, {SPOT} chunks", SPOT)):
            began, whole = time.process_time(), time.perf_counter()
            await voted_again(payload, job.picture.tensor, backend, job.seed_of(KEY), spot=spot)
            again, waited = time.process_time() - began, time.perf_counter() - whole
            rows.append([name, "", f"{again:.2f} s of processor ({again / cost:.0%} of the draws), {waited:.2f} s"])
        return rows
    finally:
        await backend.close()


def _signing(job: Job, done: Run, signer: Signer, rounds: int) -> tuple[list[list[str]], bytes]:
    """What it adds to the answer, and the certificate."""
    made = answer(job, done, KEY, request_id="00000000-0000-0000-0000-000000000000")
    evidence_made = made.evidence
    assert evidence_made is not None
    payload = payload_of(evidence_made)
    info, scope, now = job.question.info, job.scope(), datetime.now(UTC)
    evidence = _milliseconds(lambda: evidence_of(job.plan, info, scope, done, made, now=now), rounds)
    written = _milliseconds(lambda: payload_of(evidence_made), rounds)
    signed = _milliseconds(lambda: signer.sign(payload), rounds)
    together = [a + b + c for a, b, c in zip(evidence, written, signed, strict=True)]
    rows = [
        [f"signing an answer ({len(payload) / 1000:.1f} KB)", "1 ms", f"**{_ms(together)}**"],
        ["of that evidence", "", _ms(evidence)],
        ["its canonical form", "", _ms(written)],
        ["the signature and its envelope", "", _ms(signed)],
    ]
    return rows, signer.sign(payload)


def _verifying(envelope: bytes, signer: Signer, rounds: int) -> list[list[str]]:
    keys = {key.id: key.raw for key in signer.keys}
    payload, written, signatures = verify.opened(envelope)

    def arithmetic() -> None:
        assert all(check.holds for check in verify.checks(payload, written))

    def signature() -> None:
        verify.opened(envelope)
        assert verify.signers(written, signatures, keys)

    parts = [_milliseconds(part, rounds) for part in (signature, arithmetic, lambda: planned_again(payload))]
    names = ("of that reading and the signature", "the arithmetic", "the plan: the state machine again")
    together = [sum(each) for each in zip(*parts, strict=True)]
    rows = [[name, "", _ms(part)] for name, part in zip(names, parts, strict=True)]
    return [["`certify verify`, warm", "50 ms", f"**{_ms(together)}**"], *rows]


def _milliseconds(call: Callable[[], Any], rounds: int) -> list[float]:
    """Of this thread's processor time, each round."""
    call()
    times = []
    for _ in range(rounds):
        began = time.thread_time()
        call()
        times.append((time.thread_time() - began) * 1000)
    return times


def _ms(times: list[float]) -> str:
    return spread(times, "{:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.certificates",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bundle", default="digits")
    parser.add_argument("--rounds", type=int, default=50)
    arguments = parser.parse_args()
    print(sentence(machine()) + "\n")
    rows = asyncio.run(measure(arguments.bundle, arguments.rounds))
    print(table([f"a certificate of `{arguments.bundle}`", "goal", "median (least to largest)"], rows))


if __name__ == "__main__":
    main()
