"""A MaxMind file in memory: where a network is. Opened by `program`, asked through `controllers/georoute`."""

from pathlib import Path

import maxminddb
from maxminddb import const

from tenfold import errors
from tenfold import zone as zones
from tenfold.controllers import georoute


def load(path: Path) -> georoute.Locate:
    """The file as a function. All of it is read now: no answer waits for a disk. Raises BadBindings."""
    try:
        reader = maxminddb.open_database(str(path), const.MODE_MEMORY)
    except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
        raise errors.BadBindings(
            f"{path}: {error} found, a MaxMind file (City) expected; put one there, or remove dns.maxmind"
        ) from error

    knows_six = reader.metadata().ip_version == 6

    def locate(address: georoute.Address) -> georoute.Found | None:
        if address.version == 6 and not knows_six:
            return None
        try:
            record, bits = reader.get_with_prefix_len(address)
        except maxminddb.InvalidDatabaseError:
            return None  # damaged just there
        place = record.get("location") if isinstance(record, dict) else None
        if not isinstance(place, dict):
            return None
        latitude, longitude = place.get("latitude"), place.get("longitude")
        if not isinstance(latitude, int | float) or not isinstance(longitude, int | float):
            return None
        return georoute.Found(zones.Location(latitude, longitude), bits)

    return locate
