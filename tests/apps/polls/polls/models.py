"""Questions with choices, and votes that count once, however often their request is repeated."""

from django.db import models


class Question(models.Model):
    """What is asked."""

    text = models.CharField(max_length=200)
    published_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.text


class Choice(models.Model):
    """One of the answers, and how many chose it."""

    question = models.ForeignKey(Question, on_delete=models.CASCADE)
    text = models.CharField(max_length=200)
    votes = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.text


class Vote(models.Model):
    """One vote. The form that it came from has given it its reference."""

    choice = models.ForeignKey(Choice, on_delete=models.CASCADE)
    reference = models.UUIDField(unique=True)
