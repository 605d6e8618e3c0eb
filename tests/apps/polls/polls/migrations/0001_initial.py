"""The tables, and a first question."""

from typing import Any, ClassVar

import django.db.models.deletion
from django.db import migrations, models


def ask(apps: Any, _: Any) -> None:
    question = apps.get_model("polls", "Question").objects.create(text="Tea or coffee?")
    for text in ("Tea", "Coffee"):
        apps.get_model("polls", "Choice").objects.create(question=question, text=text)


class Migration(migrations.Migration):
    initial = True
    dependencies: ClassVar = []
    operations: ClassVar = [
        migrations.CreateModel(
            "Question",
            [
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("text", models.CharField(max_length=200)),
                ("published_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            "Choice",
            [
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("text", models.CharField(max_length=200)),
                ("votes", models.IntegerField(default=0)),
                ("question", models.ForeignKey("polls.question", django.db.models.deletion.CASCADE)),
            ],
        ),
        migrations.CreateModel(
            "Vote",
            [
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("reference", models.UUIDField(unique=True)),
                ("choice", models.ForeignKey("polls.choice", django.db.models.deletion.CASCADE)),
            ],
        ),
        migrations.RunPython(ask, migrations.RunPython.noop),
    ]
