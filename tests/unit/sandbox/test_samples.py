"""Sample files are what they say they are; the seed is whole."""

import io
import re
from pathlib import Path

from PIL import Image

from kurir_sandbox import seed
from kurir_sandbox.samples import NAMES, sample
from kurir_sandbox.world import World


def data_of(name: str) -> bytes:
    found = sample(name)
    assert found is not None and found.name == name
    return found.data


def test_pictures_are_pictures() -> None:
    assert Image.open(io.BytesIO(data_of("promo.png"))).size == (640, 360)
    large = data_of("large.png")
    Image.open(io.BytesIO(large)).verify()
    assert 5 * 1024 * 1024 < len(large) < 6 * 1024 * 1024


def test_invoice_has_a_valid_cross_reference_table() -> None:
    pdf = data_of("invoice.pdf")
    start = int(re.findall(rb"startxref\n(\d+)\n%%EOF\n$", pdf)[0])
    assert pdf[start:].startswith(b"xref\n0 6\n0000000000 65535 f \n")
    offsets = [int(offset) for offset in re.findall(rb"(\d{10}) 00000 n \n", pdf[start:])]
    assert [pdf[offset : offset + 7] for offset in offsets] == [b"%d 0 obj" % n for n in range(1, 6)]
    length, stream = re.findall(rb"/Length (\d+) >>\nstream\n(.*?)endstream", pdf, re.DOTALL)[0]
    assert int(length) == len(stream)


def test_unknown_sample_is_none() -> None:
    assert sample("missing.png") is None
    assert all(sample(name) is not None for name in NAMES)


def test_seed_fits_the_demo(tmp_path: Path) -> None:
    world = World(tmp_path)
    official = seed.plant(world)
    people = world.people()
    assert len({person.lid for person in people}) == len(people) == 15
    assert sum(not person.on_whatsapp for person in people) == 3
    loyal, foreign = world.groups()
    assert loyal.role_of(seed.DEVICE_OWNER) == "superadmin" and foreign.role_of(seed.DEVICE_OWNER) is None
    assert {member.role for member in loyal.members} == {"superadmin", "admin", "participant"}
    assert world.person(official.phone) is None
    world.clear()
    assert seed.plant(world, official) == official
    world.close()
