"""An endpoint that is asked: what is counted once, what is asked again, and what ends in an error."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from certify.models.errors import RemoteError
from certify.models.remote.declared import Input, Output, Remote
from certify.models.remote.endpoint import Endpoint
from certify.models.remote.limits import Limits
from certify.models.remote.probe import known_pictures
from tests.remote.conftest import DIGITS, INPUT, QUICK, remote_of
from tests.remote.server import ModelServer, model_server

PICTURES = np.random.default_rng(1).normal(size=(40, 1, 8, 8)).astype(np.float32)


@contextmanager
def opened(server: ModelServer, remote: Remote | None = None, **limits: object) -> Iterator[Endpoint]:
    """Packed and opened; what that took is forgotten."""
    remote = remote or remote_of(server.url)
    endpoint = Endpoint(remote.url, Limits(retries=QUICK, **limits))  # type: ignore[arg-type]
    try:
        about = endpoint.about()
        known = endpoint.probe(remote, DIGITS)
        endpoint.open(dataclasses.replace(remote, reported=about, known=known), DIGITS)
        server.calls.clear()
        yield endpoint
    finally:
        endpoint.close()


def expected(server: ModelServer, pictures: NDArray[np.float32] = PICTURES) -> list[int]:
    labels: list[int] = server.logits(pictures)[1].argmax(axis=1).tolist()
    server.calls.clear()
    return labels


def asked(server: ModelServer) -> list[int]:
    return [len(pictures) for pictures in server.calls]


@pytest.mark.parametrize("extensions", [[], ["binary_tensor_data"]], ids=["text", "bytes"])
def test_each_picture_gets_its_class_and_a_known_one_goes_along(server: ModelServer, extensions: list[str]) -> None:
    server.extensions = extensions
    with opened(server) as endpoint:
        assert endpoint.labels(PICTURES).tolist() == expected(server)
        assert endpoint.model == "digits 1"
        for _ in range(3):
            endpoint.labels(PICTURES)
        assert asked(server) == [41, 41, 41]
        known = known_pictures(INPUT)
        for number, pictures in enumerate(server.calls, start=1):
            np.testing.assert_array_equal(pictures[number], known[number])  # another one at another place
            np.testing.assert_array_equal(np.delete(pictures, number, axis=0), PICTURES)


def test_full_calls_carry_none_and_every_sixteenth_is_followed_by_one(server: ModelServer) -> None:
    with opened(server, remote_of(server.url, max_batch=2), connections=1) as endpoint:
        assert endpoint.labels(PICTURES).tolist() == expected(server)
        endpoint.labels(PICTURES)
        assert asked(server) == [2] * 11 + [1] + [2] * 9  # the first asking made 20 calls, one of which came before


def test_plain_json_gives_labels_scores_or_names_of_numbers_or_png(server: ModelServer) -> None:
    honest = expected(server)
    for kind in ("scores", "labels"):
        with opened(server, remote_of(server.plain, output=Output(kind=kind))) as endpoint:
            assert endpoint.labels(PICTURES).tolist() == honest and endpoint.model == ""
    server.lie = lambda _, answer: (200, {}, {"labels": [str(label) for label in answer["labels"]]})
    with opened(server, remote_of(server.plain, output=Output(kind="labels"))) as endpoint:
        assert endpoint.labels(PICTURES).tolist() == honest
    server.lie = None
    pixels = np.random.default_rng(2).integers(0, 256, (40, 1, 8, 8)).astype(np.float32)
    png = Input(dtype="png", layout="NHWC", channels=1, size=(8, 8), scale=255.0, mean=(0.0,), std=(1.0,))
    with opened(server, remote_of(server.plain, input=png)) as endpoint:
        beyond = pixels.copy()
        beyond[pixels == 255], beyond[pixels == 0] = 300, -40.4  # noise goes beyond, and is cut off
        assert endpoint.labels(beyond + 0.3).tolist() == expected(server, (pixels / 255 - 0.5) / 0.5)


@pytest.mark.parametrize("status", [0, 429, 503], ids=["broken", "429", "503"])
def test_what_may_pass_is_asked_again_with_the_same_pictures_and_counted_once(server: ModelServer, status: int) -> None:
    with opened(server) as endpoint:
        server.lie = lambda call, answer: (status, {"retry-after": "1"}, {}) if call == 1 else (200, {}, answer)
        labels = endpoint.labels(PICTURES)
        first, second = server.calls
        np.testing.assert_array_equal(first, second)
        assert labels.tolist() == expected(server)


def test_what_does_not_pass_is_given_up_and_said(server: ModelServer) -> None:
    with opened(server) as endpoint:
        server.lie = lambda *_: (503, {}, {"error": "no model"})
        with pytest.raises(RemoteError, match=r"v2/models/digits: answered 503: .*no model.*, tried 3 times"):
            endpoint.labels(PICTURES)
        assert asked(server) == [41] * 3
    nowhere = Endpoint("http://127.0.0.1:9/v2/models/digits", Limits(retries=QUICK))
    with pytest.raises(RemoteError, match="cannot be asked: ConnectError: .*, tried 2 times"):
        nowhere.about()
    nowhere.close()


def test_a_slow_endpoint_is_not_waited_for(server: ModelServer) -> None:
    with opened(server, seconds=0.3) as endpoint:
        server.seconds = 0.6
        with pytest.raises(
            RemoteError, match=r"no answer within 0.3 seconds \(CERTIFY_REMOTE_SECONDS\), tried 2 times"
        ):
            endpoint.labels(PICTURES)


def of_logits(change: Callable[[dict[str, Any]], object]) -> Callable[[int, dict[str, Any]], Any]:
    def lie(_: int, answer: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        change(answer["outputs"][0])
        return 200, {}, answer

    return lie


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else [1.0]


LIES = {
    "short": (of_logits(lambda o: o.update(shape=[40, 10], data=o["data"][:400])), "expected 41 x 10 scores, got"),
    "long": (of_logits(lambda o: o.update(shape=[42, 10], data=o["data"] + o["data"][:10])), "expected 41 x 10 scores"),
    "another shape": (of_logits(lambda o: o.update(shape=[41, 11])), r"fills its shape \[41, 11\], got 410 values"),
    "other classes": (of_logits(lambda o: o.update(shape=[41, 5], data=o["data"][:205])), "expected 41 x 10 scores"),
    "nan": (of_logits(lambda o: o["data"].__setitem__(13, float("nan"))), "got nan for picture 1, class 3"),
    "infinite": (of_logits(lambda o: o["data"].__setitem__(0, float("inf"))), "expected finite scores, got inf"),
    "true": (of_logits(lambda o: o["data"].__setitem__(0, True)), "expected a list of numbers"),
    "null": (of_logits(lambda o: o["data"].__setitem__(0, None)), "expected a list of numbers"),
    "text": (of_logits(lambda o: o.update(datatype="BYTES")), "datatype: expected one of"),
    "another name": (of_logits(lambda o: o.update(name="probabilities")), "one named logits, got probabilities"),
    "no outputs": (lambda *_: (200, {}, {}), "outputs: expected one named logits, got none"),
    "no JSON": (lambda *_: (200, {}, b"<html>"), "expected a JSON object, got '<html>'"),
    "deep data": (of_logits(lambda o: o.update(data=nested(800))), "expected a list of numbers"),
    "deep JSON": (lambda *_: (200, {}, b"[" * 100_000), "expected a JSON object"),
    "a megabyte too much": (lambda *_: (200, {}, b" " * 2**21), "expected an answer of at most"),
    "its own error": (lambda *_: (400, {}, {"error": "batch too large"}), "got status 400: .*batch too large"),
    "elsewhere": (lambda *_: (302, {"location": "http://127.0.0.1:1/"}, {}), "got status 302"),
}


@pytest.mark.parametrize(("lie", "says"), LIES.values(), ids=LIES)
def test_what_is_no_answer_is_an_error_and_not_asked_again(server: ModelServer, lie: Any, says: str) -> None:
    with opened(server) as endpoint:
        server.lie = lie
        with pytest.raises(RemoteError, match=says):
            endpoint.labels(PICTURES)
        assert asked(server) == [41] and not endpoint.outdated


PLAIN_LIES = {
    "short": ({"labels": [1] * 40}, "expected 41 whole numbers, a class of each picture"),
    "unknown class": ({"labels": [10] * 41}, "expected classes 0 to 9, got 10"),
    "negative": ({"labels": [-1] * 41}, "expected classes 0 to 9, got -1"),
    "unknown name": ({"labels": ["ten"] * 41}, "expected names of classes, as '0', got 'ten'"),
    "fractions": ({"labels": [1.5] * 41}, "expected 41 whole numbers"),
    "scores alone": ({"scores": [[1.0] * 10] * 41}, "expected an object with labels, got one with scores"),
    "true": ({"labels": [True] * 41}, "expected lists of numbers, got 'True'"),
    "an object": ({"labels": {"0": 1}}, "expected lists of numbers"),
    "enormous": ({"labels": [10**30] * 41}, "expected 41 whole numbers"),
}


@pytest.mark.parametrize(("answer", "says"), PLAIN_LIES.values(), ids=PLAIN_LIES)
def test_plain_json_that_is_no_answer_is_an_error(server: ModelServer, answer: Any, says: str) -> None:
    with opened(server, remote_of(server.plain, output=Output(kind="labels"))) as endpoint:
        server.lie = lambda *_: (200, {}, answer)
        with pytest.raises(RemoteError, match=says):
            endpoint.labels(PICTURES)


def test_a_known_picture_that_is_answered_otherwise_ends_it(server: ModelServer) -> None:
    with opened(server) as endpoint:
        server.lie = of_logits(lambda output: output["data"].reverse())
        with pytest.raises(RemoteError, match="another model than when the bundle was packed: expected class"):
            endpoint.labels(PICTURES)
        assert endpoint.outdated


def test_another_version_in_an_answer_or_in_the_metadata_ends_it(server: ModelServer) -> None:
    with opened(server) as endpoint:
        endpoint.labels(PICTURES)
        server.version = "2"
        with pytest.raises(RemoteError, match="expected version 1, as before, got 2"):
            endpoint.labels(PICTURES)
        assert endpoint.outdated
    server.version = "1"
    with opened(server) as endpoint:
        assert server.metadata is not None
        server.metadata = {**server.metadata, "versions": ["1", "2"]}
        with pytest.raises(RemoteError, match=r"expected versions \['1'\], got \['1', '2'\]"):
            endpoint.labels(PICTURES)
        assert endpoint.outdated


def shuffled(answer: dict[str, Any], rows: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Any:
    output = answer["outputs"][0]
    values = rows(np.array(output["data"]).reshape(output["shape"]))
    return 200, {}, {**answer, "outputs": [{**output, "data": values.ravel().tolist()}]}


NO_FUNCTIONS: dict[str, Callable[[int, dict[str, Any]], Any]] = {
    "by its place": lambda _, a: shuffled(a, lambda rows: np.where(np.arange(len(rows))[:, None] % 2, -rows, rows)),
    "by its neighbours": lambda _, a: shuffled(a, lambda rows: rows - rows.mean(axis=0)),
    "by the size of the call": lambda _, a: shuffled(a, lambda rows: rows if len(rows) > 20 else -rows),
    "by the time": lambda call, a: shuffled(a, lambda rows: rows if call % 2 else -rows),
    "at random, within its class": lambda call, a: shuffled(
        a, lambda rows: rows * (1 + 0.2 * np.random.default_rng(call).random((len(rows), 1)))
    ),
}


@pytest.mark.parametrize("lie", NO_FUNCTIONS.values(), ids=NO_FUNCTIONS)
def test_what_is_no_function_of_a_picture_by_itself_is_refused(server: ModelServer, lie: Any) -> None:
    endpoint = Endpoint(server.url, Limits(retries=QUICK))
    server.lie = lie
    try:
        with pytest.raises(RemoteError, match=r"digits: expected the same answer for a picture whatever its place"):
            endpoint.probe(remote_of(server.url), DIGITS)
    finally:
        endpoint.close()


@pytest.mark.parametrize("most", [1, 2, 3, 16, 17, 64])
def test_the_probe_asks_twice_in_another_order_and_in_calls_of_another_size(server: ModelServer, most: int) -> None:
    endpoint = Endpoint(server.url, Limits(retries=QUICK))
    try:
        endpoint.probe(remote_of(server.url, max_batch=most), DIGITS)
    finally:
        endpoint.close()
    known = known_pictures(INPUT)
    first = max(16, most)
    asked_for = np.concatenate(server.calls)
    np.testing.assert_array_equal(asked_for[:first], known[np.arange(first) % 16])
    np.testing.assert_array_equal(asked_for[first:], known[::-1])
    sizes = asked(server)
    assert max(sizes) == most and (most == 1 or sizes[0] != sizes[-2])


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"max_calls": 12}, r"budget is spent: expected at most 12 calls in this process \(CERTIFY_REMOTE_MAX_CALLS\)"),
        ({"max_images": 250}, r"at most 250 pictures in this process \(CERTIFY_REMOTE_MAX_IMAGES\)"),
    ],
)
def test_a_budget_counts_every_try_and_ends_with_an_error(server: ModelServer, limits: Any, says: str) -> None:
    # 80 pictures in five calls when it is packed, and when it is opened again; then 41 in each
    with opened(server, remote_of(server.url), **limits) as endpoint:
        endpoint.labels(PICTURES)
        server.lie = lambda *_: (503, {}, {})
        with pytest.raises(RemoteError, match=says):
            for _ in range(2):
                endpoint.labels(PICTURES)


def test_calls_keep_their_pace(server: ModelServer) -> None:
    with opened(server, remote_of(server.url, max_batch=8), calls_per_second=50.0) as endpoint:
        began = time.monotonic()
        endpoint.labels(PICTURES)
        assert time.monotonic() - began >= 4 / 50  # five calls; that it takes longer proves nothing
        assert asked(server) == [8] * 5


def test_a_token_is_sent_read_again_and_never_shown(server: ModelServer, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("secret-one\n")
    server.token = "secret-one"
    with opened(server, token_file=path) as endpoint:
        assert endpoint.labels(PICTURES).tolist() == expected(server)
        server.token = "secret-two"
        with pytest.raises(RemoteError, match="let in with the token of CERTIFY_REMOTE_TOKEN_FILE, got 401") as refused:
            endpoint.labels(PICTURES)
        assert "secret" not in str(refused.value)
        path.write_text("secret-two, changed\n")
        with pytest.raises(RemoteError, match="expected one word of printable ASCII") as refused:
            endpoint.labels(PICTURES)
        assert "secret" not in str(refused.value)
        path.write_text("secret-two\n")
        assert endpoint.labels(PICTURES).tolist() == expected(server)
        path.unlink()
        with pytest.raises(RemoteError, match="expected a text file"):
            endpoint.labels(PICTURES)


def test_closing_ends_what_is_asked(server: ModelServer) -> None:
    with opened(server) as endpoint:
        server.seconds = 1.0
        ended: list[BaseException] = []

        def ask() -> None:
            try:
                endpoint.labels(PICTURES)
            except RemoteError as error:
                ended.append(error)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        before = server.arrived
        for thread in threads:
            thread.start()
        while server.arrived < before + 3:
            time.sleep(0.01)
        endpoint.close()
        for thread in threads:
            thread.join(10)
        assert len(ended) == 3 and all("given up" in str(error) or "closed" in str(error) for error in ended)
        with pytest.raises(RemoteError, match="closed"):
            endpoint.labels(PICTURES)


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate with")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        capture_output=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    with model_server((certificate, key)) as server:
        endpoint = Endpoint(server.url, Limits(retries=QUICK))
        with pytest.raises(RemoteError, match="CERTIFICATE_VERIFY_FAILED"):
            endpoint.about()
        endpoint.close()
        assert not server.calls
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with opened(server) as trusting:
            assert trusting.labels(PICTURES).tolist() == expected(server)
