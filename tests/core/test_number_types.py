"""Which number type a processor computes fast in, with the instructions of other processors emulated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from ccvd_core import number_types
from ccvd_core.number_types import fast_autocast, fast_dtype, has_fast_bfloat16, number_type

AVX2 = {"architecture": "x86_64", "avx2": True, "fma3": True, "avx512_bf16": False, "amx_bf16": False}
AVX512 = {**AVX2, "avx512_f": True, "avx512_bw": True, "avx512_vl": True, "avx512_dq": True, "avx512_vnni": True}
ZEN4 = {**AVX512, "avx512_bf16": True}
AMX = {**ZEN4, "amx_tile": True, "amx_bf16": True}
GRAVITON2 = {"architecture": "aarch64", "neon": True, "bf16": False}
GRAVITON3 = {**GRAVITON2, "bf16": True, "sve": True}


def emulate(monkeypatch: pytest.MonkeyPatch, capabilities: Mapping[str, Any]) -> None:
    monkeypatch.setattr(number_types, "processor", lambda: capabilities)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)


@pytest.mark.parametrize(
    ("capabilities", "onednn", "fast"),
    [
        (AVX2, True, False),
        (AVX512, True, False),
        (ZEN4, True, True),
        (AMX, True, True),
        (GRAVITON2, True, False),
        (GRAVITON3, True, True),
        (GRAVITON3, False, False),  # an Apple processor: torch for macOS has no oneDNN
        ({}, True, False),
    ],
)
def test_bfloat16_needs_instructions_and_the_library_that_uses_them(
    capabilities: Mapping[str, Any], onednn: bool, fast: bool
):
    assert has_fast_bfloat16(capabilities, onednn) is fast


def test_this_processor_is_asked():
    known = number_types.processor()
    assert known is torch.cpu.get_capabilities() and "architecture" in known


def test_an_older_torch_is_asked_what_it_knows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert has_fast_bfloat16(number_types.processor(), onednn=True)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert not has_fast_bfloat16(number_types.processor(), onednn=True)


@pytest.mark.parametrize(("capabilities", "expected"), [(AVX2, torch.float32), (AMX, torch.bfloat16)])
def test_autocast_computes_in_it_and_with_the_weights_of_now(
    monkeypatch: pytest.MonkeyPatch, capabilities: Mapping[str, Any], expected: torch.dtype
):
    emulate(monkeypatch, capabilities)
    assert fast_dtype() == expected and f"torch.{number_type()}" == str(expected)
    weight = torch.ones(4, 4, requires_grad=True)
    with fast_autocast(cache_enabled=False):
        before = torch.ones(1, 4) @ weight
        with torch.no_grad():
            weight += 1
        after = torch.ones(1, 4) @ weight
    assert before.dtype == after.dtype == expected
    assert torch.equal(after, 2 * before)


def test_a_graphics_card_is_asked_for_instructions_of_its_own(monkeypatch: pytest.MonkeyPatch):
    emulate(monkeypatch, AMX)
    for native in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, native=native: native)
        assert (fast_dtype("cuda:0") == torch.bfloat16) is native
    assert fast_dtype("mps") == torch.float32


def test_it_says_once_what_it_chose(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    emulate(monkeypatch, AVX2)
    number_types._say_once.cache_clear()
    with caplog.at_level("INFO"):
        fast_dtype()
        fast_dtype()
    assert caplog.messages == ["Computing in float32, which is what this cpu computes fast."]
