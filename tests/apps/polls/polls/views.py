"""The pages. All but the last are repeated when the database goes away under them."""

import uuid

from django.db import transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from polls.models import Choice, Question, Vote
from polls.repeat import repeated


@repeated
def index(request: HttpRequest) -> HttpResponse:
    newest = Question.objects.order_by("-published_at")[:5]
    return render(request, "polls/index.html", {"questions": newest})


@repeated
def detail(request: HttpRequest, question_id: int) -> HttpResponse:
    question = get_object_or_404(Question, pk=question_id)
    return render(request, "polls/detail.html", {"question": question, "reference": uuid.uuid4()})


@require_POST
@repeated
def vote(request: HttpRequest, question_id: int) -> HttpResponse:
    """Count a vote, once: a repeat finds its reference, and changes nothing."""
    choice = get_object_or_404(Choice, pk=request.POST.get("choice"), question_id=question_id)
    with transaction.atomic():
        _, is_new = Vote.objects.get_or_create(reference=request.POST["reference"], defaults={"choice": choice})
        if is_new:
            Choice.objects.filter(pk=choice.pk).update(votes=F("votes") + 1)
    return redirect("results", question_id)


@repeated
def results(request: HttpRequest, question_id: int) -> HttpResponse:
    question = get_object_or_404(Question, pk=question_id)
    votes = Vote.objects.filter(choice__question=question).order_by("-pk")[:200]
    return render(request, "polls/results.html", {"question": question, "votes": votes})


def counts(_: HttpRequest, question_id: int) -> HttpResponse:
    """As views are without `repeated`."""
    found = Choice.objects.filter(question_id=question_id).values_list("text", "votes")
    return JsonResponse(dict(found))
