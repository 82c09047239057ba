"""The Open Inference Protocol: Triton's own HTTP client, and bodies that no client sends."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tests import pictures
from tests.answer_rules import check
from tests.servers import InProcess, in_process, real_process

IMAGE = pictures.png()
PIXELS = np.asarray(pictures.gray())[None]
FILE = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(IMAGE).decode()]}
INFER = "/v2/models/certify/infer"


def pixels(**members: Any) -> dict[str, Any]:
    return {"name": "image", "datatype": "UINT8", "shape": [1, 8, 8], "data": PIXELS.ravel().tolist(), **members}


async def infer(service: InProcess, image: dict[str, Any] = FILE, **members: Any) -> dict[str, Any]:
    response = await service.client.post(INFER, json={"inputs": [image], "parameters": {"samples": 2000}, **members})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["model_name"], answer["model_version"]) == ("certify", "1")
    return {output["name"]: output["data"][0] for output in answer["outputs"]} | {"id": answer["id"]}


@pytest.mark.slow
def test_tritons_client_gets_certificates_of_files_and_tensors(tmp_path: Path) -> None:
    pytest.importorskip("geventhttpclient", reason="needs geventhttpclient, of certify[dev]")
    import tritonclient.http as triton

    with real_process(tmp_path / "log") as service:
        client = triton.InferenceServerClient(service.url.removeprefix("http://"))
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("certify")
        assert client.is_model_ready("certify", "1")
        assert client.get_server_metadata()["name"] == "certify"
        (named,) = client.get_model_metadata("certify")["inputs"]
        assert (named["name"], named["datatype"]) == ("image", "BYTES")

        def ask(kind: str, value: Any, *, binary: bool, outputs: Any = None, **parameters: Any) -> Any:
            tensor = triton.InferInput("image", list(value.shape), kind)
            tensor.set_data_from_numpy(value, binary_data=binary)
            return client.infer("certify", [tensor], outputs=outputs, request_id="mine", parameters=parameters)

        unit = (PIXELS / np.float32(255.0)).astype(np.float32)
        text = np.array([base64.b64encode(IMAGE)], dtype=object)
        answers = [
            ask("BYTES", np.array([IMAGE], dtype=object), binary=True, samples=2000, sigmas="0.5,1"),
            ask("BYTES", text, binary=False, samples=2000, sigmas="0.5,1"),
            *(
                ask(kind, value, binary=binary, samples="2000", sigmas="[1, 0.5]")
                for kind, value in (("UINT8", PIXELS), ("UINT8", PIXELS[None]), ("FP32", unit))
                for binary in (True, False)
            ),
        ]
        facts = []
        for answer in answers:
            assert answer.get_response()["id"] == "mine"
            whole = check(json.loads(answer.as_numpy("answer")[0]))
            assert answer.as_numpy("radius").dtype == np.float64
            assert answer.as_numpy("radius")[0] == whole["radius"]
            assert answer.as_numpy("outcome")[0] in (whole["outcome"], whole["outcome"].encode())
            facts.append({name: value for name, value in whole.items() if name not in ("id", "timing")})
        assert all(each == facts[0] for each in facts)

        one = triton.InferRequestedOutput("radius", binary_data=False)
        only = ask("UINT8", PIXELS, binary=True, outputs=[one], samples=2000)
        assert [output["name"] for output in only.get_response()["outputs"]] == ["radius"]
        with pytest.raises(InferenceServerException, match="samples: expected at least"):
            ask("UINT8", PIXELS, binary=True, samples=1)


@pytest.mark.anyio
async def test_a_tensor_a_file_and_a_form_get_the_same_certificate() -> None:
    async with in_process() as service:
        form = {"files": {"image": ("a.png", IMAGE)}, "data": {"samples": "2000"}}
        answer = check((await service.client.post("/v1/certify", **form)).json())
        nested = (PIXELS / 255.0).tolist()
        for image in (FILE, pixels(), pixels(shape=[1, 1, 8, 8]), pixels(datatype="FP32", data=nested)):
            outputs = await infer(service, image)
            assert outputs["radius"] == answer["radius"] and outputs["outcome"] == answer["outcome"]
            assert outputs["sigma"] == (answer["sigma"] or 0.0)
            label = answer["label"] or {"index": -1, "name": ""}
            assert (outputs["label_index"], outputs["label"]) == (label["index"], label["name"])
            assert json.loads(outputs["answer"])["id"] == outputs["id"]


@pytest.mark.anyio
async def test_what_is_null_or_blank_is_absent() -> None:
    """Clients made from classes write null for every member that is not set."""
    async with in_process() as service:
        image = {**FILE, "parameters": None}
        whole = {"id": None, "parameters": None, "inputs": [image], "outputs": None}
        response = await service.client.post(INFER, json=whole)
        assert response.status_code == 200 and len(response.json()["outputs"]) == 6, response.text
        radius = {"name": "radius", "parameters": None}
        parameters = {"radius": " .25 ", "sigmas": "", "alpha": None, "norm": " "}
        response = await service.client.post(
            INFER, json={"inputs": [image], "outputs": [radius], "parameters": parameters}
        )
        assert [output["name"] for output in response.json()["outputs"]] == ["radius"], response.text


@pytest.mark.anyio
@pytest.mark.parametrize(
    "twice", ['"parameters": {"radius": 0.1, "radius": 0.9}, "inputs": [FILE]', '"inputs": [], "inputs": [FILE]']
)
async def test_a_name_that_is_given_twice_is_malformed_as_everywhere(twice: str) -> None:
    async with in_process() as service:
        body = "{" + twice.replace("FILE", json.dumps(FILE)) + "}"
        for content in (body.encode(), json.dumps({"inputs": [FILE]}).encode("utf-16")):
            response = await service.client.post(INFER, content=content)
            assert (response.status_code, response.json()["code"]) == (400, "malformed_body"), response.text


@pytest.mark.anyio
async def test_bytes_that_nothing_asks_for_are_refused() -> None:
    raw = len(IMAGE).to_bytes(4, "little") + IMAGE
    both, none, alone = (
        {"inputs": [{**tensor, "parameters": parameters}]}
        for tensor, parameters in (
            (FILE, {"binary_data_size": len(raw)}),
            (FILE, {}),
            ({**FILE, "data": None}, {"binary_data_size": len(raw)}),
        )
    )
    async with in_process() as service:
        for request, said in ((both, "data or binary_data_size, got both"), (none, f"{len(raw)} bytes that came")):
            head = json.dumps(request).encode()
            headers = {"Inference-Header-Content-Length": str(len(head))}
            response = await service.client.post(INFER, content=head + raw, headers=headers)
            assert response.status_code == 422 and said in response.json()["detail"], response.text
        response = await service.client.post(INFER, content=json.dumps(alone).encode() + raw)
        assert response.status_code == 400
        assert "need the header Inference-Header-Content-Length" in response.json()["detail"]


@pytest.mark.anyio
async def test_an_abstention_has_no_label() -> None:
    async with in_process() as service:
        for seed in range(40):
            parameters = {"samples": 200, "final": "threshold", "threshold": "0.7"}
            image = {**FILE, "data": [base64.b64encode(pictures.png(seed)).decode()]}
            outputs = await infer(service, image, parameters=parameters)
            if outputs["outcome"] == "abstained":
                break
        assert (outputs["label"], outputs["label_index"], outputs["radius"], outputs["sigma"]) == ("", -1, 0.0, 0.0)


BAD: dict[str, tuple[Any, int, str, str]] = {
    "no object": ([], 422, "out_of_range", "body: expected an object"),
    "no inputs": ({}, 422, "out_of_range", "inputs: expected a list"),
    "two inputs": ({"inputs": [FILE, FILE]}, 422, "out_of_range", "inputs: expected one tensor"),
    "another input": ({"inputs": [{**FILE, "name": "x"}]}, 422, "unknown_field", "x: expected one input called image"),
    "another type": ({"inputs": [pixels(datatype="INT8")]}, 422, "out_of_range", "image: expected datatype BYTES"),
    "another shape": ({"inputs": [pixels(shape=[8, 8])]}, 422, "image_wrong_size", "image: expected a tensor of shape"),
    "another count": ({"inputs": [pixels(shape=[1, 8, 9])]}, 422, "out_of_range", "image: expected as many numbers"),
    "negative size": ({"inputs": [pixels(shape=[-1, 8, 8])]}, 422, "out_of_range", "image: expected a shape"),
    "pixels above 255": ({"inputs": [pixels(data=[256] * 64)]}, 422, "out_of_range", "image: expected integers"),
    "truths as pixels": ({"inputs": [pixels(data=[True] * 64)]}, 422, "out_of_range", "image: expected integers"),
    "fractions as UINT8": ({"inputs": [pixels(data=[0.5] * 64)]}, 422, "out_of_range", "image: expected integers"),
    "above 1": ({"inputs": [pixels(datatype="FP32", data=[1.5] * 64)]}, 422, "out_of_range", "image: expected numbers"),
    "no base64": ({"inputs": [{**FILE, "data": ["*"]}]}, 422, "image_undecodable", "image: expected base64"),
    "no image": ({"inputs": [{**FILE, "data": ["AAAA"]}]}, 415, "unsupported_format", "image: expected PNG"),
    "two files": ({"inputs": [{**FILE, "data": ["AAAA", "AAAA"]}]}, 422, "out_of_range", "image: expected one file"),
    "an unknown member": ({"inputs": [FILE], "input": 1}, 422, "unknown_field", "input: expected one of"),
    "an unknown parameter": ({"inputs": [FILE], "parameters": {"p": 1}}, 422, "unknown_field", "p: expected one of"),
    "a bad parameter": ({"inputs": [FILE], "parameters": {"alpha": "much"}}, 422, "out_of_range", "alpha: "),
    "a signature": ({"inputs": [FILE], "parameters": {"signed": True}}, 422, "out_of_range", "signed: expected false"),
    "an image as a parameter": (
        {"inputs": [FILE], "parameters": {"image": ""}},
        422,
        "unknown_field",
        "image: expected as an input",
    ),
    "an unknown output": ({"inputs": [FILE], "outputs": [{"name": "x"}]}, 422, "unknown_field", "x: expected one of"),
    "deep data": (
        {"inputs": [pixels(data=[[[[[[[[[1]]]]]]]]])]},
        422,
        "out_of_range",
        "image: expected data in",
    ),
    "many values": ({"inputs": [pixels(data=[1] * 5000)]}, 400, "malformed_body", "body: expected at most 4096 values"),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", BAD)
async def test_what_cannot_be_read_is_a_problem_with_the_protocols_error(name: str) -> None:
    request, status, code, detail = BAD[name]
    async with in_process() as service:
        response = await service.client.post(INFER, json=request)
        problem = response.json()
        assert (response.status_code, problem["code"]) == (status, code), problem
        assert problem["error"] == problem["detail"] and problem["detail"].startswith(detail), problem
        assert status != 422 or problem["field"]
        assert service.backend.calls == 0


@pytest.mark.anyio
@pytest.mark.parametrize("length", ["", "-1", "1e3", "9" * 30, "99999"])
async def test_a_length_of_json_that_is_none_is_malformed(length: str) -> None:
    async with in_process() as service:
        headers = {"Inference-Header-Content-Length": length}
        response = await service.client.post(INFER, content=b"{}", headers=headers)
        assert (response.status_code, response.json()["code"]) == (400, "malformed_body")


@pytest.mark.anyio
@pytest.mark.parametrize("raw", [b"", b"\x00", b"\x05\x00\x00\x00abc", bytes(63), bytes(65)], ids=len)
@pytest.mark.parametrize("kind", ["BYTES", "UINT8", "FP32"])
async def test_raw_bytes_of_another_length_are_refused(kind: str, raw: bytes) -> None:
    shape = [1] if kind == "BYTES" else [1, 8, 8]
    image = {"name": "image", "datatype": kind, "shape": shape, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [image]}).encode()
    async with in_process() as service:
        headers = {"Inference-Header-Content-Length": str(len(head))}
        response = await service.client.post(INFER, content=head + raw, headers=headers)
        assert (response.status_code, response.json()["code"]) == (422, "out_of_range")


@pytest.mark.anyio
async def test_health_is_that_of_the_service() -> None:
    async with in_process() as service:
        ready = ("/v2/health/ready", "/v2/models/certify/ready", "/v2/models/certify/versions/1/ready")
        for path in (*ready, "/v2/health/live", "/v2", "/v2/models/certify"):
            assert (await service.client.get(path)).status_code == 200
        assert (await service.client.get("/v2/models/other")).json()["error"].startswith("expected a path")
        service.backend.failing = True
        service.gateway.readiness.failed()
        for path in ready:
            assert (await service.client.get(path)).status_code == 503
        assert (await service.client.get("/v2/health/live")).status_code == 200
