"""MaxMind files: where a network is, and files that are none."""

import ipaddress
from pathlib import Path

import pytest

from support import maxmind
from tenfold import errors, zone
from tenfold.controllers import georoute
from tenfold.georoute import places


def test_a_network_of_the_file_has_its_place_and_others_have_none(tmp_path: Path) -> None:
    file = tmp_path / "city.mmdb"
    maxmind.write(file, {"100.64.0.0/16": (35.7, 139.7), "100.65.128.0/17": (50.1, 8.7)})
    locate = places.load(file)

    assert georoute.Found(zone.Location(35.7, 139.7), 16) == locate(ipaddress.ip_address("100.64.3.4"))
    assert georoute.Found(zone.Location(50.1, 8.7), 17) == locate(ipaddress.ip_address("100.65.200.1"))
    assert None is locate(ipaddress.ip_address("100.65.1.1"))
    assert None is locate(ipaddress.ip_address("2001:db8::1")), "a file of IPv4 alone"


@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_a_file_that_is_none_says_what_to_do(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "city.mmdb"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(errors.BadBindings, match=r"city\.mmdb: .* found, a MaxMind file \(City\) expected"):
        places.load(file)
