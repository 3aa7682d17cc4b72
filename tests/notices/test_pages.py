"""Notices pages: who may, what is refused in which words, and that no address of a service is ever seen again."""

from __future__ import annotations

import html
import logging
import re
import socket
import subprocess
import sys

import pytest
from django.apps import apps
from django.test import Client

from certificates.models import ClientCertificate
from environments import actions as environments
from environments.models import Person
from notices import actions, services, tasks
from notices.models import Channel, Feed, Lead, Message, Snooze
from notices.relay import Relay
from rollouts.outbound import Door
from tests.notices.test_watching import ends_in
from tests.rollouts.test_outbound import INWARD

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "t0ps3cret-path"


def text_of(response) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


@pytest.fixture
def page(client, owner, application):
    client.force_login(owner)
    return f"/apps/{application.slug}/settings/notices/"


def test_a_service_is_added_tested_and_its_address_is_seen_nowhere(client, page, receiver, owner, caplog):
    caplog.set_level(logging.DEBUG)
    typed = {"title": "Team", "address": receiver.address, "weekly": "on"}
    assert client.post(f"{page}add/service/", typed).status_code == 302
    channel = Channel.objects.get()
    seen = [client.post(f"{page}{channel.pk}/test/", follow=True)]
    assert "Team: handed over to Webhook." in text_of(seen[0])
    ((path, body),) = receiver.received
    assert path == f"/{SECRET}"
    assert b"Invoicing: a test of Team" in body
    receiver.answers = 401
    seen.append(client.post(f"{page}{channel.pk}/test/", follow=True))
    assert "Team: not sent. The service did not take the message (it answered 401); check its address." in (
        text_of(seen[-1])
    )
    seen += [client.get(page), client.get(f"{page}{channel.pk}/"), client.get("/audit/")]
    assert not [one for one in seen if SECRET in one.content.decode()]
    assert SECRET not in caplog.text
    rows = [str(row) for model in apps.get_models() for row in model._default_manager.values()]
    assert not [row for row in rows if SECRET in row]
    assert any("Team" in row for row in rows)
    client.post(f"{page}{channel.pk}/remove/")
    channel.refresh_from_db()
    assert channel.sealed is not None
    assert channel.sealed.header is None, "its address is forgotten"


@pytest.mark.parametrize(
    ("kind", "typed", "field", "words"),
    [
        ("service", {"title": "X", "address": "nonsense"}, "address", "no address of a service that is known"),
        ("service", {"title": "X", "address": "syslog://"}, "address", "not reached over HTTPS"),
        ("service", {"title": "X", "address": "mailto://u:p@example.com"}, "address", "not reached over HTTPS"),
        ("service", {"title": "", "address": "json://h"}, "title", "Give it a name."),
        ("mail", {"title": "X"}, "addresses", "Tell the people here, or type an address."),
        ("mail", {"title": "X", "addresses": "ada@example.com, nobody"}, "addresses", "“nobody” is no e-mail address"),
        ("mail", {"title": "X", "addresses": "\n".join(f"a{n}@b.example" for n in range(21))}, "addresses", "21 addr"),
    ],
)
def test_what_cannot_be_meant_is_refused_beside_its_field_and_stays_typed(client, page, kind, typed, field, words):
    response = client.post(f"{page}add/{kind}/", typed)
    assert response.status_code == 422
    assert words in str(response.context["form"].errors[field])
    if kind == "mail":
        assert response.context["form"]["addresses"].value() == typed.get("addresses")
    assert Channel.objects.count() == 0


@pytest.mark.parametrize("inward", INWARD)
@pytest.mark.parametrize("how", ["CONNECT {0}:8080 HTTP/1.1", "POST http://{0}:8080/x HTTP/1.1"])
def test_nothing_inward_is_reached_for_a_service_however_it_is_spelled(inward, how):
    with Relay(Door(("public",)), seconds=5) as relay, socket.create_connection(("127.0.0.1", relay.port), 5) as asked:
        asked.sendall(f"{how.format(inward)}\r\nHost: x\r\n\r\n".encode())
        answer = asked.makefile("rb").read()
    assert b" 200 " not in answer
    assert relay.refusal or not answer, "the door's own sentence, or an address that is none"


@pytest.mark.parametrize("inward", ["127.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]", "0x7f000001"])
def test_a_service_is_told_no_in_the_words_of_the_door(inward):
    with pytest.raises(services.NotTaken, match=r"not allowed to connect there|no address of a service"):
        services.say(f"json://{inward}:8080/x", title="t", text="t", door=Door(("public",)))


@pytest.mark.parametrize(
    "how",
    [
        "socket.create_connection(('127.0.0.1', OTHER), 2)",
        "socket.socket().connect_ex(('127.0.0.1', OTHER))",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', OTHER))",
        "socket.socket(socket.AF_UNIX).connect('/run/dbus/system_bus_socket')",
        "socket.getaddrinfo('localhost', 80)",
        "subprocess.run(['true'])",
    ],
)
def test_what_speaks_to_services_reaches_nothing_but_its_relay(receiver, settings, how):
    program = (
        "import runpy, socket, subprocess, sys\n"
        "guard = runpy.run_path(sys.argv[1])['_only_the_proxy']\n"
        "guard(int(sys.argv[2])); OTHER = int(sys.argv[3])\n"
        "socket.create_connection(('127.0.0.1', int(sys.argv[2])), 2)\n"
        f"try: {how}\nexcept PermissionError: sys.exit(7)\n"
    )
    with Relay(settings.DOORS["notices"], seconds=5) as relay:
        words = [sys.executable, "-I", "-c", program, services.HERE / "messenger.py", str(relay.port)]
        done = subprocess.run([*words, str(receiver.server_port)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 7, done.stderr


def test_a_relay_ends_with_its_message(receiver, settings):
    with Relay(settings.DOORS["notices"], seconds=5) as relay:
        port = relay.port
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 2)


def test_a_redirect_inward_is_judged_like_any_other_address(receiver, settings):
    receiver.answers = 302
    with pytest.raises(services.NotTaken, match="not allowed to connect there"):
        services.say(receiver.address, title="t", text="t", door=settings.DOORS["notices"])
    assert len(receiver.received) == 1


@pytest.mark.parametrize("typed", [{"first": 5, "week": 7, "day": 1}, {"first": 400, "week": 7, "day": 1}])
def test_days_in_no_order_are_refused(client, page, environment, typed):
    assert client.post(f"{page}{environment.slug}/lead/", typed).status_code == 422
    assert not Lead.objects.exists()


def test_other_days_hold_from_the_next_look_on(client, page, environment, add_certificate, postbox, person):
    person("ada")
    ends_in(add_certificate(), 80)
    tasks.watch()
    assert Message.objects.filter(kind="notice").count() == 0
    assert client.post(f"{page}{environment.slug}/lead/", {"first": 90, "week": 14, "day": 2}).status_code == 302
    assert "90 days, or a third of its lifetime" in text_of(client.get(page))
    from notices.models import Watch

    Watch.objects.all().delete()
    tasks.watch()
    assert Message.objects.filter(kind="notice").count() == 1
    client.post(f"{page}{environment.slug}/lead/", {"first": 60, "week": 7, "day": 1})
    assert not Lead.objects.exists(), "the usual days are no choice of anybody"


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (None, {"see": 404, "change": 404, "message": 404, "lead": 404, "snooze": 404}),
        ("viewer", {"see": 200, "change": 403, "message": 200, "lead": 403, "snooze": 403}),
        ("operator", {"see": 200, "change": 403, "message": 200, "lead": 403, "snooze": 200}),
        ("owner", {"see": 200, "change": 200, "message": 200, "lead": 200, "snooze": 200}),
    ],
)
def test_who_may_do_what_with_notices(application, environment, owner, add_certificate, postbox, role, expected):
    certificate: ClientCertificate = add_certificate()
    channel = actions.add_mail(
        application=application, title="M", to_people=False, addresses="a@b.example", weekly=False, rollouts=False,
        by=owner,
    )  # fmt: skip
    message = actions.test_channel(channel=channel, by=owner)
    person = Person.objects.create_user("ada", password="x")
    if role:
        environments.add_member(application=application, person=person, role=role, by=owner)
    browser, page = Client(), f"/apps/{application.slug}/settings/notices/"
    browser.force_login(person)
    found = {
        "see": browser.get(page).status_code,
        "message": browser.get(f"{page}messages/{message.pk}/").status_code,
        "lead": browser.get(f"{page}{environment.slug}/lead/").status_code,
        "change": browser.get(f"{page}{channel.pk}/").status_code,
        "snooze": browser.get(environment.url("snooze", certificate.pk)).status_code,
    }
    assert found == expected
    posts = [f"{page}{channel.pk}/test/", f"{page}messages/{message.pk}/again/", f"{page}{channel.pk}/remove/"]
    assert {browser.post(post).status_code for post in posts} == {302 if role == "owner" else expected["change"]}
    assert browser.post(environment.url("wake", certificate.pk)).status_code == (
        302 if expected["snooze"] == 200 else expected["snooze"]
    )
    assert Snooze.objects.count() == 0


@pytest.mark.matrix
def test_who_sees_one_environment_only_does_not_read_what_was_said_of_the_others(
    application, environment, owner, person, add_certificate, postbox
):
    elsewhere = environments.create_environment(application=application, name="Production", by=owner)
    eve, _ada = person("eve", environment=elsewhere), person("ada")
    ends_in(add_certificate("Top secret partner"), 5)
    tasks.watch()
    message = Message.objects.get(kind="notice")
    browser, page = Client(), f"/apps/{application.slug}/settings/notices/"
    browser.force_login(eve)
    assert "Top secret partner" not in browser.get(page).content.decode()
    assert browser.get(f"{page}messages/{message.pk}/").status_code == 404


@pytest.mark.matrix
def test_somebody_elses_calendar_cannot_be_closed(owner, person):
    ada = person("ada")
    actions.open_feed(person=owner, scope="all", application=None, by=owner)
    browser = Client()
    browser.force_login(ada)
    assert browser.post(f"/calendars/{Feed.objects.get().mark}/close/").status_code == 404
    assert browser.post("/calendars/", {"scope": "payroll"}).status_code == 422
    assert Client().get("/calendars/").status_code == 302, "the list wants a sign-in"
