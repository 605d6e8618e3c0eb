"""What voters do, for `tenfold load`."""

import re

from tenfold.traffic import User, Write, journey

CHECKS = {
    "vote": "select reference, count(*) from polls_vote where reference = any($1::uuid[]) group by 1",
}
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')


@journey
async def vote(user: User) -> None:
    """Open a question, vote, and find the vote among the newest."""
    await user.get("/polls/", name="polls")
    page = await user.get("/polls/1/", name="question")
    token = TOKEN.search(page.text)
    if token is None:
        user.wrong("a form without a token")
        return
    ballot = Write("vote", is_keyed=False)
    form = {"csrfmiddlewaretoken": token[1], "choice": user.random.choice("12"), "reference": ballot.reference}
    found = await user.post("/polls/1/vote/", name="vote", form=form, write=ballot)
    user.sees(ballot, [ballot.reference] if ballot.reference in found.text else ())


@journey(weight=2)
async def count(user: User) -> None:
    """Ask a view that is not repeated."""
    await user.get("/polls/1/counts/", name="counts, not repeated")
