"""A visitor whose region is lost is still logged in at the other one, with what was in the cart."""

import uuid
from pathlib import Path

import httpx
import pytest

from support import project
from tenfold.kit import clock

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]

REGIONS = """
replicas = 1
memory = "32MiB"

[sessions]
store = "STORE"

[regions.seoul]
primary = true

[regions.virginia]
listen = "FAR"
"""


@pytest.mark.parametrize("store", ["database", pytest.param("token", marks=pytest.mark.torture)])
async def test_a_session_survives_the_loss_of_its_region(tmp_path: Path, store: str) -> None:
    async with project.shop(tmp_path) as shop:
        door = f"127.0.0.1:{project.free_port()}"
        file = shop.folder / "tenfold.toml"
        text = file.read_text() + REGIONS.replace("STORE", store).replace("FAR", door)
        file.write_text(text.replace(f'"{store}"', '"cache"', 1))
        refused = await shop.try_tenfold("plan")
        assert 2 == refused.code
        assert "a visitor may be led to another region" in refused.output
        file.write_text(text)
        await shop.tenfold("up", "-d", seconds=300)

        async with httpx.AsyncClient(base_url=shop.url, timeout=30) as ann:
            account = {"email": f"{uuid.uuid4()}@example.test", "password": "correct horse", "name": "Ann"}
            assert 201 == (await ann.post("/api/signup", json=account)).status_code
            product = (await ann.get("/api/products")).json()["products"][0]["id"]
            item = {"product_id": product, "quantity": 2, "reference": str(uuid.uuid4())}
            assert 200 == (await ann.post("/api/cart/items", json=item)).status_code
            cart = (await ann.get("/api/cart")).json()
            cookies = {name: value for name, value in ann.cookies.items()}

        async with httpx.AsyncClient(base_url=f"http://{door}", timeout=30, cookies=cookies) as led:

            async def is_there() -> bool:  # what the lost region had committed last may not have crossed yet
                answer = await led.get("/api/cart")
                return answer.status_code == 200 and answer.json() == cart

            assert await clock.until(is_there, seconds=30, pause_seconds=0.2)
            await shop.tenfold("region", "kill", "seoul", seconds=200)
            assert await clock.until(is_there, seconds=30, pause_seconds=0.2), (await led.get("/api/cart")).text
            item |= {"reference": str(uuid.uuid4())}
            assert 200 == (await led.post("/api/cart/items", json=item)).status_code, "it goes on there"
