"""What the core offers: each name is there, is listed once, and is loaded by nobody who does not ask for it."""

import subprocess
import sys

import pytest

from certify.service import core


def test_every_name_it_lists_is_there():
    assert all(getattr(core, name).__name__ == name for name in core.__all__)
    assert list(core.__all__) == sorted(core._HOMES)


def test_a_name_that_it_does_not_offer_is_refused_by_name():
    with pytest.raises(AttributeError, match=r"certify\.service\.core.*'certify'"):
        _ = core.certify


def test_the_words_of_an_answer_need_no_scipy():
    code = "import sys, certify.service.core.reasons; print({'numpy', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
