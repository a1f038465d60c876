"""The device of a rank: given, found, or none."""

import os

import pytest
import torch

from dsrl.config.compose import compose
from dsrl.planning import device
from dsrl.planning.device import Device


def test_a_given_size_goes_first():
    assert Device.of(compose(["plan.device_gib=80"])) == Device(kind="gpu", gib=80.0)
    assert Device.of(compose(["plan.device_gib=8", "trainer.accelerator=cpu"])) == Device(kind="cpu", gib=8.0)


def test_a_machine_or_what_its_container_may_take(tmp_path, monkeypatch):
    built_in = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit, none = tmp_path / "memory.max", tmp_path / "max"
    limit.write_text("4294967296\n")
    none.write_text("max\n")
    monkeypatch.setattr(device, "CGROUP_LIMITS", (str(none), str(tmp_path / "missing")))
    assert device.machine_bytes() == built_in
    monkeypatch.setattr(device, "CGROUP_LIMITS", (str(limit),))
    config = compose(["trainer.accelerator=cpu", "trainer=ddp", "trainer.devices=4"])
    assert Device.of(config) == Device(kind="cpu", gib=1.0)  # ranks of a machine share it


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is one")
def test_no_gpu_here():
    assert Device.of(compose(["trainer.accelerator=gpu"])) == Device(kind="gpu", gib=None)


def test_a_gpu_that_is_found(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    properties = type("Properties", (), {"total_memory": 141 * 2**30})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: properties)
    assert Device.of(compose([])) == Device(kind="gpu", gib=141.0)
