"""Bundles of an earlier form, or edited ones, written anew: `certify bundles upgrade`."""

from __future__ import annotations

import shutil
from pathlib import Path

from .bundle import MANIFEST, Manifest, load_manifest, save_manifest, verify
from .convert import with_graph
from .write import replaces_bundle, whole_folder

__all__ = ("upgrade",)


def upgrade(bundle: Path) -> Manifest:
    """Write the bundle anew in its place, with a graph of its networks as this version makes it.

    Raises BundleError if it is none, its files are not the manifest's, or no graph can be made of its networks.
    """
    before = load_manifest(bundle)
    verify(bundle, before)
    with whole_folder(bundle, replaces=replaces_bundle) as folder:
        shutil.copytree(bundle, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("graph", MANIFEST))
        manifest = with_graph(before, folder)
        save_manifest(manifest, folder)
    return manifest
