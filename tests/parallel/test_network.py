import os

from dsrl.parallel.network import point_gloo_to


def test_the_way_to_this_machine_is_its_loopback(monkeypatch):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    point_gloo_to("127.0.0.1")
    assert os.environ.pop("GLOO_SOCKET_IFNAME") == "lo"


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    point_gloo_to("127.0.0.1")
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"


def test_an_address_that_nobody_knows_sets_nothing(monkeypatch):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    point_gloo_to("no such host")
    assert "GLOO_SOCKET_IFNAME" not in os.environ
