"""More than any number of its servers can take."""

from tenfold.traffic import User, journey


@journey(weight=1)
async def look(user: User) -> None:
    await user.get("/long", name="long page")
