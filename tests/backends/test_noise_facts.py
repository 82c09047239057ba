"""What an exported model says of its noise, and what a gateway reads of it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from certify.models.bundle import find_bundle, load_manifest
from certify.models.export import facts_of
from certify.models.runtime import RuntimeOptions
from certify.service.backends.triton_facts import _read
from certify.service.errors import BackendUnavailable

OPTIONS = RuntimeOptions(device="cpu", engine="torch", micro_batch=64, workers=1)


@pytest.mark.parametrize("kinds", [("laplace",) * 3, ("gaussian", "uniform", "laplace"), ("splitting",) * 3])
def test_noise_and_norm_travel_with_the_model_and_are_part_of_its_identity(kinds):
    plain = load_manifest(find_bundle("digits"))
    other = dataclasses.replace(plain, noise=kinds, norm="l1")
    facts = [json.loads(json.dumps(facts_of(manifest, OPTIONS, instances=1))) for manifest in (plain, other)]
    gaussian, ours = (_read(each) for each in facts)
    assert (ours.info.noise, ours.info.norm, ours.info.cascade.norm) == (kinds, "l1", "l1")
    assert (gaussian.info.noise, gaussian.info.norm) == ((), "l2")
    assert ours.identity != gaussian.identity
    assert "scales" not in facts[0]  # an older gateway and a newer model of Gaussian noise understand each other
    assert (
        "sigmas" not in facts[1]
    )  # and of other noise they do not: its votes are not certified as if it were Gaussian


def test_noise_that_this_version_does_not_know_is_another_versions():
    manifest = load_manifest(find_bundle("digits"))
    scales = {"sigmas": list(manifest.sigmas), "noise": ["cauchy"] * 3, "norm": "l1"}
    facts = facts_of(manifest, OPTIONS, instances=1) | {"scales": scales}
    with pytest.raises(BackendUnavailable, match="exported by another version"):
        _read(facts)
