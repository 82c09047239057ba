"""Recipes differ from the run by what their names say; networks are judged by votes that anybody can count again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="the command trains too (pip install 'certify[train]')")

import torch

from benchmarks.recipes import clean_accuracy, judged, recipes
from certify.models.bundle import find_bundle, load_manifest
from certify.models.classifier import Classifier
from certify.models.datasets import open_dataset
from certify.models.networks import load_networks
from certify.models.train.config import FileConfig
from certify.models.train.data import decode
from certify.models.train.runs import find_run


def run(name: str) -> FileConfig:
    found = find_run(name)
    assert isinstance(found, FileConfig)
    return found


def test_each_recipe_is_one_change_and_as_many_draws_a_step() -> None:
    short = recipes(run("cifar10"), 500)
    assert short["as the run, shorter"].steps == 500
    changed = {
        name: {
            field.name
            for field in dataclasses.fields(recipe)
            if getattr(recipe, field.name) != getattr(short["as the run, shorter"], field.name)
        }
        for name, recipe in short.items()
    }
    assert changed == {
        "as the run, shorter": set(),
        "no Muon": {"muon_rate"},
        "no consistency": {"consistency", "batch"},
        "no consistency, Brier": {"consistency", "batch", "loss"},
    }


@pytest.mark.slow
def test_networks_that_ship_are_right_and_certified_by_their_votes() -> None:
    config, folder = run("fashion"), find_bundle("fashion")
    networks = load_networks(folder, load_manifest(folder)).each(lambda network: network.float())
    assert networks.denoiser is not None
    assert isinstance(networks.plain, Classifier)
    images, labels = decode(open_dataset("fashion").part(limit=4), shape=config.shape)
    cells = judged(networks.denoiser, networks.plain, config, images, labels, draws=40)
    shares = [float(cell) for cell in cells]
    assert len(shares) == 3 + 3 * 2 + 1
    assert all(4 * share in (0, 1, 2, 3, 4) for share in shares)
    plurality, certified = shares[:3], np.reshape(shares[3:9], (3, 2))
    assert shares[-1] >= 0.75
    assert plurality[0] >= 0.75
    assert (certified[:, 0] <= plurality).all()
    assert (certified[:, 1] <= certified[:, 0]).all()
    # 40 of 40 votes prove .25 * quantile(.794) = .205 at alpha / 10, and no more.
    assert certified[0, 1] == 0
    again = judged(networks.denoiser, networks.plain, config, images, torch.full_like(labels, 10), draws=40)
    assert {float(cell) for cell in again} == {0.0}


@pytest.mark.slow
def test_the_classifier_alone_is_counted_on_clean_images() -> None:
    images, labels = decode(open_dataset("fashion").part(limit=50), shape=(1, 28, 28))
    classifier = Classifier.from_folder(find_bundle("fashion") / "classifier").float().eval()
    right = clean_accuracy(classifier, images, labels)
    assert right >= 0.8
    wrong = clean_accuracy(classifier, images, (labels + 1) % 10)
    assert wrong <= 1 - right
