"""What comes to it: many who look, a few who ask for a job."""

from tenfold.traffic import User, Write, journey

CHECKS = {"job": "select reference, count(*) from job where reference = any($1::uuid[]) group by 1"}


@journey(weight=20)
async def look(user: User) -> None:
    await user.get("/", name="page")


@journey(weight=1)
async def ask(user: User) -> None:
    job = Write("job")
    await user.post("/jobs", json={"reference": job.reference}, name="job", write=job)
