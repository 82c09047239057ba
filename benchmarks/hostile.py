"""What hostile bodies cost: seconds of processor time, peak memory and the answer, each body in a process of its own.

    python -m benchmarks.hostile [--mib 10]

A body of the allowed size must cost well under 0.3 s (decoders hold the interpreter's lock meanwhile) and under four
times its size in memory, the body itself included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
import tracemalloc
from collections.abc import Callable
from multiprocessing.connection import Connection

from benchmarks.report import progress, table
from certify.service.errors import RequestError
from certify.service.http.bodies import parse_body

__all__ = ("ATTACKS", "Attack", "build", "cost")

# Longer, and the attack has won: the process is ended and the table says so.
_MOST_SECONDS = 120

Attack = tuple[str, Callable[[int], bytes]]  # its content type, and the body of about that many bytes
_JSON = "application/json"
_FORM = "multipart/form-data; boundary=b"


def _filled(head: bytes, unit: bytes, tail: bytes) -> Callable[[int], bytes]:
    return lambda size: head + unit * ((size - len(head) - len(tail)) // len(unit)) + tail


def _part(name: str, content: bytes = b"") -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="' + name.encode() + b'"\r\n\r\n' + content


def _keys(size: int) -> bytes:
    return b"{" + b",".join(b'"%d":1' % number for number in range(size // 12)) + b"}"


_FILE = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
_END = b"\r\n--b--\r\n"
ATTACKS: dict[str, Attack] = {
    "form: threshold=1,1,1,...": (_FORM, _filled(_part("threshold"), b"1,", b"1" + _END)),
    "form: norm=aaa...": (_FORM, _filled(_part("norm"), b"a", _END)),
    "form: samples=999...": (_FORM, _filled(_part("samples"), b"9", _END)),
    "form: alpha=0.111...": (_FORM, _filled(_part("alpha", b"0."), b"1", _END)),
    "form: one-byte parts": (_FORM, _filled(b"", _part("threshold", b"1") + b"\r\n", b"--b--\r\n")),
    "form: a giant part header": (_FORM, _filled(b"--b\r\nX: ", b"a", b"\r\n\r\n" + _END)),
    "form: many part headers": (_FORM, _filled(b"--b\r\n", b"X: a\r\n", b"\r\n" + _END)),
    "form: a giant field name": (_FORM, _filled(b'--b\r\nContent-Disposition: form-data; name="', b"a", b'"' + _END)),
    "form: near boundaries": (_FORM, _filled(_FILE, b"\r\n--bX", _END)),
    "form: boundaries' first bytes": (_FORM, _filled(_FILE, b"\r\n--", _END)),
    "form: boundary padding": (_FORM, _filled(_FILE + b"\r\n--b", b" ", b"\r\n" + _END)),
    "form: an image that is none": (_FORM, _filled(_FILE, b"\0", _END)),
    "JSON: threshold of 1e9999999999999": (_JSON, _filled(b'{"threshold":[', b"1e9999999999999,", b"1]}")),
    "JSON: threshold of 1": (_JSON, _filled(b'{"threshold":[', b"1,", b"1]}")),
    "JSON: image of [],[],...": (_JSON, _filled(b'{"image":[', b"[],", b"[]]}")),
    "JSON: image of {},{},...": (_JSON, _filled(b'{"image":[', b"{},", b"{}]}")),
    'JSON: image of "","",...': (_JSON, _filled(b'{"image":[', b'"",', b'""]}')),
    "JSON: many keys": (_JSON, _keys),
    "JSON: one key again and again": (_JSON, _filled(b'{"a":1', b',"a":1', b"}")),
    "JSON: [[[[...": (_JSON, _filled(b"", b"[", b"")),
    'JSON: {"a":{"a":...': (_JSON, _filled(b"", b'{"a":', b"")),
    "JSON: one long integer": (_JSON, _filled(b'{"samples":', b"9", b"}")),
    "JSON: one long fraction": (_JSON, _filled(b'{"alpha":0.', b"1", b"}")),
    "JSON: white space": (_JSON, _filled(b"", b" ", b"{}")),
    "JSON: a giant key": (_JSON, _filled(b'{"', b"a", b'":1}')),
    "JSON: a giant norm": (_JSON, _filled(b'{"norm":"', b"a", b'"}')),
    "JSON: quotes": (_JSON, _filled(b"", b'"', b"")),
    "JSON: escaped quotes": (_JSON, _filled(b'{"image":"', b'\\"', b'"}')),
    "JSON: base64 in lines of two": (_JSON, _filled(b'{"image":"', b"AA\\n", b'"}')),
    "JSON: base64 of line breaks": (_JSON, _filled(b'{"image":"', b"\\n", b'"}')),
    "JSON: base64 with spaces": (_JSON, _filled(b'{"image":"', b"A A ", b'"}')),
    "JSON: base64 of escapes": (_JSON, _filled(b'{"image":"', b"\\u0041", b'"}')),
    "JSON: base64 of escaped slashes": (_JSON, _filled(b'{"image":"', b"\\/", b'"}')),
    "JSON: base64 and one emoji": (_JSON, _filled(b'{"image":"\\ud83d\\ude00', b"AAAA", b'"}')),
    "JSON: base64 and one raw emoji": (_JSON, _filled('{"image":"\U0001f600'.encode(), b"AAAA", b'"}')),
    "JSON: base64 of an image that is none": (_JSON, _filled(b'{"image":"', b"AAAA", b'"}')),
}


def build(name: str, size: int) -> bytes:
    """The attack's body, about `size` bytes."""
    return ATTACKS[name][1](size)


def cost(name: str, size: int) -> tuple[float, float, str]:
    """CPU seconds, peak MiB of the body and of what Python allocated beside it, and the answer's code."""
    body = build(name, size)
    seconds, _, code = _in_child(name, body, traced=False)
    if code == "ended":
        return seconds, float("nan"), code
    # Apart from the timing: counting allocations takes longer than making them.
    _, peak, _ = _in_child(name, body, traced=True)
    return seconds, (peak + len(body)) / 2**20, code


def _in_child(name: str, body: bytes, *, traced: bool) -> tuple[float, float, str]:
    here, there = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_parse, args=(there, ATTACKS[name][0], body, traced))
    process.start()
    there.close()
    try:
        return here.recv()  # type: ignore[no-any-return]
    except EOFError:
        return float("inf"), float("nan"), "ended"
    finally:
        process.join()


def _parse(result: Connection, content_type: str, body: bytes, traced: bool) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (_MOST_SECONDS, _MOST_SECONDS))
    if traced:
        tracemalloc.start()
    began = time.process_time()
    try:
        parse_body(body, content_type=content_type, content_encoding=None)
        code = "taken"  # the image is looked at next
    except RequestError as exc:
        code = f"{exc.code} {exc.extra.get('field', '')}".strip()
    except MemoryError:
        code = "MemoryError"
    seconds = time.process_time() - began
    result.send((seconds, tracemalloc.get_traced_memory()[1] if traced else 0, code))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hostile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=float, default=10.0, help="size of each body [10: the service's default limit]")
    size = int(parser.parse_args().mib * 2**20)
    rows = []
    for name in ATTACKS:
        seconds, peak, code = cost(name, size)
        progress(f"  {name}: {seconds:.3f} s")
        rows.append([name, f"{seconds:.3f}", f"{peak:.0f}", code])
    print(table(["body", "CPU seconds", "peak MiB", "answer"], rows))


if __name__ == "__main__":
    main()
