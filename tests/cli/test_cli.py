from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from certify.service import __version__
from certify.service.answering.schemas import CertifyFields
from certify.service.cli.main import app
from certify.service.settings import ENV_PREFIX, Settings
from tests import pictures
from tests.answer_rules import check
from tests.servers import ROOT, real_process

WIDE = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}


def certify(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env=WIDE)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def digit(tmp_path: Path) -> Path:
    path = tmp_path / "digit.png"
    path.write_bytes(pictures.png())
    return path


def image(*arguments: str | Path) -> list[dict[str, Any]]:
    _, out, _ = certify("image", "--backend=fake", "--json", *arguments)
    return [json.loads(line) for line in out.splitlines()]


def test_serve_has_a_flag_for_every_setting_with_its_key_and_default() -> None:
    code, out, _ = certify("serve", "--help")
    assert code == 0
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in out
        assert f"{ENV_PREFIX}{name.upper()}" in out
        assert field.description
    assert "--port" in out
    assert "--host" in out
    assert "default: ]" not in out.replace("\n", "")


@pytest.mark.parametrize("command", ["image", "dataset"])
def test_every_field_of_a_request_is_in_the_help_with_its_meaning_and_default(command: str) -> None:
    code, out, _ = certify(command, "--help")
    assert code == 0
    text = " ".join(out.replace("│", " ").split())
    for name, field in CertifyFields.model_fields.items():
        if name in ("evidence", "signed"):  # a command's own matter, and a service's
            continue
        assert f"--{name.replace('_', '-')} " in text
        # What a table's narrow column breaks is put together again, but not its words' order: the first ones will do.
        assert field.description is not None
        assert " ".join(field.description.split()[:4]) in text
        if field.default not in (None, False):
            assert f"[default: {field.default}]" in text
    for shape in ("NUMBER,...", "INTEGER", "l2|linf", "plurality|threshold"):
        assert shape in text
    assert "[random" in text  # no bracket is taken for markup


def test_help_lists_every_command_and_each_has_its_own() -> None:
    code, out, _ = certify("--help")
    assert code == 0
    for name in ("serve", "image", "dataset", "curve", "tune", "bundles", "train", "triton", "tune-runtime"):
        assert f" {name} " in out
        code, own, _ = certify(name, "--help")
        assert code == 0 and f" {name} [OPTIONS]" in own
    for name, bracket in (("pack", "[the folder's]"), ("export", "[the device's]")):
        code, own, _ = certify("bundles", name, "--help")
        assert code == 0 and f" bundles {name} [OPTIONS]" in own
        assert bracket in own  # not taken for markup
    code, _, err = certify("certfy")
    assert code == 2 and "No such command" in err


def test_a_bad_flag_stops_the_start_and_names_the_key() -> None:
    code, _, err = certify("serve", "--max-running", "none")
    assert code == 2
    assert "CERTIFY_MAX_RUNNING" in err


def failed_start(*arguments: str) -> str:
    """What `certify serve` says when it refuses to start. In a process of its own: serving configures logging."""
    command = [sys.executable, "-m", "certify", "serve", "--http-port=0", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode != 0
    return done.stderr


@pytest.mark.slow
def test_a_backend_that_cannot_be_had_stops_the_start_and_names_the_key() -> None:
    assert "CERTIFY_TRITON_URL: " in failed_start("--backend=triton", "--triton-url=localhost")


@pytest.mark.slow
def test_a_bundle_that_does_not_exist_stops_the_start_and_names_the_key() -> None:
    pytest.importorskip("torch", reason="without torch no bundle is opened", exc_type=ImportError)
    assert "CERTIFY_BUNDLE: nowhere: " in failed_start("--bundle=nowhere")


@pytest.mark.slow
def test_a_device_that_is_not_there_stops_the_start() -> None:
    torch = pytest.importorskip("torch", reason="without torch no device is opened", exc_type=ImportError)
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    assert "device: expected cpu, since torch finds no CUDA device here" in failed_start("--device=cuda")


@pytest.mark.slow
def test_an_address_that_is_taken_stops_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "address already in use" in failed_start("--backend=fake", f"--http-port={port}")


def test_an_image_is_certified_without_a_server_and_repeats_by_its_seed(digit: Path) -> None:
    (first,) = image(digit, "--samples=2000")
    (again,) = image(digit, "--samples=2000", f"--seed={first['seed']}")
    (other,) = image(digit, "--samples=2000", f"--seed={first['seed'] + 1}")
    check(first)

    def facts(answer: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in answer.items() if name not in ("id", "timing")}

    assert facts(first) == facts(again)
    assert first["stages"] != other["stages"]


def test_text_and_json_hold_the_same_facts(digit: Path) -> None:
    (as_json,) = image(digit, "--samples=2000", "--seed=1", "--radius=0.1")
    code, text, _ = certify("image", digit, "--backend=fake", "--samples=2000", "--seed=1", "--radius=0.1")
    assert code == 0
    for name in as_json.keys() - {"path", "stages"}:
        assert f"  {name}: " in text
    assert f"radius: {as_json['radius']}" in text
    assert as_json["input"]["sha256"] in text
    assert text.count("  stage ") == len(as_json["stages"])
    for stage in as_json["stages"]:
        assert f"stage sigma {stage['sigma']}  outcome {stage['outcome']}  samples {stage['samples']}" in text


def test_every_field_of_a_request_is_an_option(digit: Path) -> None:
    (answer,) = image(
        digit,
        "--radius=0.01",
        "--norm=linf",
        "--samples=3000",
        "--alpha=0.01",
        "--threshold=0.6,0.7",
        "--final=threshold",
        "--sigmas=1,0.25",
        "--deadline-ms=600000",
        "--resize",
    )
    check(answer)
    assert (answer["requested_radius"], answer["norm"], answer["alpha"]) == (0.01, "linf", 0.01)
    assert (answer["threshold"], answer["final"]) == ([0.7, 0.6], "threshold")


def test_a_refused_image_is_reported_and_the_others_are_answered(digit: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_bytes(b"no image")
    code, out, _ = certify("image", "--backend=fake", "--json", text, tmp_path / "absent.png", digit)
    replies = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert replies[0]["error"]["code"] == "unsupported_format"
    assert replies[1]["error"]["code"] == "missing_field"
    check(replies[2])


def test_a_value_out_of_range_is_an_error_with_its_field(digit: Path) -> None:
    code, _, err = certify("image", "--backend=fake", digit, "--samples=many")
    assert code == 1
    assert "samples" in err


def test_an_unreachable_radius_gives_the_hint(digit: Path) -> None:
    (reply,) = image(digit, "--radius=100")
    assert reply["error"]["code"] == "radius_unreachable"
    assert reply["error"]["max_radius"] > 1


def test_a_deadline_too_early_is_an_error_of_that_image(digit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTIFY_FAKE_DELAY_SECONDS", "3600")
    (reply,) = image(digit, "--deadline-ms=20")
    assert reply["error"]["code"] == "deadline_exceeded"


def test_a_service_that_is_not_there_is_an_error(digit: Path) -> None:
    code, _, err = certify("image", digit, "--url", "http://127.0.0.1:9")
    assert code == 1
    assert "http://127.0.0.1:9" in err


def test_the_services_own_options_do_not_go_with_url(digit: Path) -> None:
    code, _, err = certify("image", digit, "--url=http://127.0.0.1:9", "--seed=1")
    assert code == 2
    assert "--seed" in err


@pytest.mark.slow
def test_a_service_is_asked_with_url_and_gives_the_same_facts(digit: Path, tmp_path: Path) -> None:
    with real_process(tmp_path / "log") as service:
        code, out, _ = certify("image", digit, "--url", service.url + "/", "--samples=2000", "--sigmas=0.5,1", "--json")
        assert code == 0
        answer = json.loads(out)
        assert answer.pop("path") == str(digit)
        check(answer)
        assert answer["samples_used"] <= 2000
        code, out, _ = certify("image", digit, "--url", service.url, "--samples=1", "--json")
        assert code == 1
        assert json.loads(out)["error"]["min_samples"] > 1


def test_bundles_lists_what_is_shipped() -> None:
    from certify.models.bundle import list_bundles

    code, out, _ = certify("bundles")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(list_bundles())


def test_export_writes_a_repository_and_says_how_to_serve_it(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the export reads what runs the network", exc_type=ImportError)
    out = tmp_path / "repository"
    arguments = ["bundles", "export", "digits", "--out", out, "--engine=torch", "--instances=1", "--micro-batch=64"]
    assert certify(*arguments) == (0, f"tritonserver --model-repository {out}\n", "")
    config = (out / "mdds" / "config.pbtxt").read_text()
    assert "count: 1 " in config and '\\"grain\\":64' in config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: "),
        (["digits", "--device=tpu"], "device: expected one of"),
        (["digits", "--instances=0"], "instances: expected at least 1"),
        (["digits", "--micro-batch=33"], "micro"),
    ],
)
def test_a_wrong_export_is_refused_and_nothing_is_written(arguments: list[str], message: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the export reads what runs the network", exc_type=ImportError)
    code, _, err = certify("bundles", "export", "--out", tmp_path / "r", *arguments)
    assert code == 1 and message in err
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_a_wrong_option_of_triton_is_an_error_in_words() -> None:
    """In a process of its own: serving handles SIGTERM. Nothing is downloaded, since the export comes first."""
    pytest.importorskip("torch", reason="the export reads what runs the network", exc_type=ImportError)
    command = [sys.executable, "-m", "certify", "triton", "--instances=0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: instances: expected at least 1, got 0\n"


def test_the_version_is_printed() -> None:
    assert certify("--version") == (0, f"{__version__}\n", "")


@pytest.mark.slow
def test_several_files_are_asked_together_and_answered_in_their_order(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(6)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(pictures.png(number) if number != 2 else b"no image")
    paths = [*(tmp_path / name for name in names), tmp_path / "missing.png"]
    with real_process(tmp_path / "log") as service:
        code, out, _ = certify("image", *paths, "--url", service.url, "--samples=1000", "--json")
        said = [json.loads(line) for line in out.splitlines()]
        assert code == 1 and [Path(each["path"]) for each in said] == paths
        codes = [each["error"]["code"] if "error" in each else None for each in said]
        assert codes == [None, None, "unsupported_format", None, None, None, "missing_field"]
        code, out, _ = certify("image", *paths[:2], "--url", service.url, "--samples=1", "--json")
        assert (
            code == 1 and [json.loads(line)["error"]["code"] for line in out.splitlines()] == ["budget_too_small"] * 2
        )
        requests = [entry["path"] for entry in service.log_entries() if entry["message"] == "request"]
        assert requests == ["/v1/certify/batch"] * 2
