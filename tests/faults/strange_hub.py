"""Every answer of the loopback Hub may be twisted on its way to the unmodified client, and so may the user's asking."""

from __future__ import annotations

import functools
import gzip
import io
import json
import random
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import odd
from attempts import EndedError, Ending
from cases import Case, stranger
from hostile import DATA, TICKET, Twist, answered_right, asked, place
from material import give, material
from mutations import InapplicableError
from strange_records import edited
from victims import Scene

from lottery_hub.sharing.publishing import prepare
from tests.hub.protocol import Answer, Request

API = (r"GET /api/", r"GET /api/", r"GET /api/models$", r"GET /api/models/", r"POST /api/", r"POST .*info/lfs")


def _only(pattern: str, change: Twist, rng: random.Random) -> Twist:
    """Twist the answers to some requests: all of them, or the first one or two."""
    left = [rng.choice([1, 2, 99])]

    def twist(request: Request, answer: Answer) -> Answer:
        if not re.search(pattern, f"{request.method} {request.path}") or left[0] < 1:
            return answer
        left[0] -= 1
        return change(request, answer)

    return twist


def _twisted(scene: Scene, rng: random.Random, pattern: str, change: Twist) -> Case:
    """Return a case in which some answers are changed, and something is asked that gets them."""
    calls: tuple[str, ...] = ()
    if pattern.startswith("POST"):
        calls = ("push",)
    elif "/datasets/" in pattern:
        calls = ("dataset",)
    elif "/alice/" in pattern:
        calls = ("pull", "copy", "load", "ladder", "backbone")
    elif pattern.endswith("/models$"):
        calls = ("search",)
    return asked(scene, rng, _only(pattern, change, rng), calls)


@stranger("hub", often=20)
def an_answer_is_other_json(scene: Scene, rng: random.Random) -> Case:
    def change(request: Request, answer: Answer) -> Answer:
        try:
            told = json.loads(answer.body)
        except ValueError:
            return answer
        return replace(answer, body=json.dumps(odd.twist(told, scene, rng)).encode("utf-8", "surrogatepass"))

    return _twisted(scene, rng, rng.choice(API), change)


@stranger("hub", often=10)
def an_answer_is_no_json(scene: Scene, rng: random.Random) -> Case:
    bodies = [b"", b"[]", b"null", b"{}", b"<html>log in</html>", b"\xff\xfe", b"[" * 10**5, b"1" * 10**5, b'"x"', b"{"]
    bodies += [b"[{}]", b"[null]", b'[{"id": 1}]', b'{"sha": null}', b'{"siblings": 3}', b"NaN", b"[[[]]]", b"true"]

    def change(request: Request, answer: Answer) -> Answer:
        kind = rng.choice(["application/json", "text/html", "", "application/octet-stream; charset=x"])
        status = rng.choice([answer.status, 200, 200, 204, 206, 203, 299])
        return Answer(status, rng.choice(bodies), {**answer.headers, "Content-Type": kind})

    return _twisted(scene, rng, rng.choice(API), change)


@stranger("hub", often=20)
def a_name_is_a_path(scene: Scene, rng: random.Random) -> Case:
    """Commits, files, digests, ids, references: wherever a name stands, there stands a path."""
    keys = {"sha", "rfilename", "blobId", "sha256", "oid", "id", "modelId", "name", "ref", "targetCommit", "path"}
    chosen = rng.sample(sorted(keys), rng.choice([1, 1, 2, len(keys)]))
    path = odd.path_to(scene, rng) if rng.random() < 0.7 else odd.name(scene, rng)

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: path if key in chosen and rng.random() < 0.7 else replaced(one) for key, one in value.items()}
        return [replaced(one) for one in value] if isinstance(value, list) else value

    def change(request: Request, answer: Answer) -> Answer:
        try:
            told = replaced(json.loads(answer.body))
        except ValueError:
            return answer
        return replace(answer, body=json.dumps(told).encode("utf-8", "surrogatepass"))

    return _twisted(scene, rng, r"(GET|POST) .*", change)


@stranger("hub", often=30)
def a_header_is_hostile(scene: Scene, rng: random.Random) -> Case:
    elsewhere = place().elsewhere.address
    path = odd.path_to(scene, rng)
    weird = [path, f'"{path}"', f'W/"{path}"', f'"{scene.victim}/notes.txt"', '""', "", '".."', '"' + "a" * 300 + '"']
    weird += ['"' + "a" * 64 + '"', '"x/../../../y"', "\x9b31m", '"\u00ff"', f'"{scene.home}/thesis.tex"']
    sizes = ["-1", "0", "x", "9" * 30, "1e9", "nan", "4294967296000", ""]
    headers: dict[str, list[str]] = {
        "ETag": weird,
        "X-Linked-Etag": weird,
        "X-Repo-Commit": [*weird, "0" * 40, "../" * 5, "HEAD", "main"],
        "X-Linked-Size": sizes,
        "Content-Encoding": ["gzip", "br", "zstd", "x", "gzip, gzip", "deflate"],
        "Content-Range": ["bytes 0-1/2", "x", "bytes 99-1/*"],
        "Link": [f'<{elsewhere}/next>; rel="next"', '<>; rel="next"', 'rel="next"', '<file:///etc/passwd>; rel="next"'],
        "Location": [f"{elsewhere}/html", "file:///etc/passwd", "/", "//", "http://[", path],
        "X-Error-Code": ["RepoNotFound", "GatedRepo", "RevisionNotFound", "EntryNotFound", "x" * 999],
        "X-Error-Message": ["\x9b31mred", "x" * 9999, "%s", path],
        "Set-Cookie": ["a=b; Domain=.; Path=/", "x" * 5000],
        "Content-Disposition": [f'attachment; filename="{path}"'],
        "X-Request-Id": [path],
        "X-Xet-Hash": [path, "a" * 64],
        "X-Xet-Refresh-Route": [f"{elsewhere}/json", path],
    }
    chosen = rng.sample(sorted(headers), rng.choice([1, 1, 2]))
    if rng.random() < 0.5:
        chosen = rng.sample(["ETag", "X-Linked-Etag", "X-Repo-Commit", "Link"], rng.choice([1, 2]))
    said = {name: rng.choice(headers[name]).encode("latin-1", "replace").decode("latin-1") for name in chosen}
    flip = rng.random() < 0.3

    def change(request: Request, answer: Answer) -> Answer:
        body = answer.body
        if flip and body and "resolve" in request.path:
            body = body[:-1] + bytes([body[-1] ^ 1])
        return replace(answer, body=body, headers={**answer.headers, **said})

    pattern = rng.choice([r"(GET|HEAD) /alice/", r"(GET|HEAD) /datasets/", r".*", r"GET /api/models$"])
    return _twisted(scene, rng, pattern, change)


@stranger("hub", often=8)
def it_asks_for_patience(scene: Scene, rng: random.Random) -> Case:
    after = rng.choice(
        ["86400", "inf", "nan", "-1", "1e400", "1e18", "x", "", "9" * 400, "Wed, 21 Oct 2099 07:28:00 GMT"]
    )
    status = rng.choice([429, 503, 502, 500, 408, 425, 529, 418, 451, 507, 600, 999])

    def change(request: Request, answer: Answer) -> Answer:
        return Answer(status, b"later", {"Retry-After": after})

    return _twisted(scene, rng, rng.choice([*API, r"(GET|HEAD) /alice/", r".*"]), change)


@stranger("hub", often=15)
def a_redirect_leads_elsewhere(scene: Scene, rng: random.Random) -> Case:
    address = place().elsewhere.address
    kinds = ("html", "json", "endless", "chunked", "slow", "loop", "next", "404", "500")
    to = rng.choice([*(f"{address}/{kind}" for kind in kinds), "file:///etc/passwd", "", "/", "http://", "ftp://x/y"])
    status = rng.choice([301, 302, 303, 307, 308, 300, 304, 305])

    def change(request: Request, answer: Answer) -> Answer:
        kept = {name: told for name, told in answer.headers.items() if rng.random() < 0.5}
        return Answer(status, b"", {**kept, "Location": to} if to else kept)

    return _twisted(scene, rng, rng.choice([*API, r"(GET|HEAD) /alice/", r"(GET|HEAD) /datasets/"]), change)


@cache
@functools.cache  # seconds of work that are none of the library's
def _bomb(mebibytes: int) -> bytes:
    stored = io.BytesIO()
    with gzip.GzipFile(fileobj=stored, mode="wb", compresslevel=1) as file:
        for _ in range(mebibytes):
            file.write(b" " * 2**20)
    return stored.getvalue()


@stranger("hub", often=6)
def an_answer_has_no_end(scene: Scene, rng: random.Random) -> Case:
    bomb = _bomb(1500)  # beyond the gibibyte that a case may take
    pattern = rng.choice([*API, r"GET /alice/", r"GET /datasets/"])
    # A dataset that one has named oneself has no deadline: a slow line is no fault.
    ends = ["endless", "chunked"] if "/datasets/" in pattern else ["endless", "chunked", "slow"]

    def change(request: Request, answer: Answer) -> Answer:
        if rng.random() < 0.5:
            return Answer(302, b"", {"Location": f"{place().elsewhere.address}/{rng.choice(ends)}"})
        return replace(answer, body=bomb, headers={**answer.headers, "Content-Encoding": "gzip"})

    return _twisted(scene, rng, pattern, change)


@stranger("hub", often=12)
def a_card_that_a_search_meets_is_hostile(scene: Scene, rng: random.Random) -> Case:
    def change(request: Request, answer: Answer) -> Answer:
        rows = json.loads(answer.body)
        if not isinstance(rows, list) or not rows:
            return answer
        hostile = rows[0]
        card = hostile.setdefault("cardData", {})
        wrongs: list[Mapping[str, Any]] = [
            {"ignore_metadata_errors": True},
            {"self": 1},
            {"model-index": odd.value(scene, rng)},
            {"model_index": [], "model_name": [], "eval_results": odd.value(scene, rng)},
            {"lottery_hub": odd.value(scene, rng)},
            {odd.text(scene, rng): 1},
            {"tags": odd.value(scene, rng), "datasets": {}, "language": 3, "license": []},
        ]
        card |= rng.choice(wrongs)
        hostile["cardData"] = odd.twist(card, scene, rng) if rng.random() < 0.7 else card
        if rng.random() < 0.3:
            rows = odd.twist(rows, scene, rng)
        return replace(answer, body=json.dumps(rows).encode("utf-8", "surrogatepass"))

    return asked(scene, rng, _only(r"GET /api/models$", change, rng), ("search",))


@stranger("hub", often=10)
def a_reference_of_the_users_is_a_path(scene: Scene, rng: random.Random) -> Case:
    here = place()
    name = odd.path_to(scene, rng) if rng.random() < 0.5 else odd.name(scene, rng)
    scene.asked = [scene.root / "cache", scene.work / "out"]
    here.ready(scene)
    answer_any = rng.random() < 0.5

    def change(request: Request, answer: Answer) -> Answer:
        """Say that there is such a revision, as a hostile Hub would."""
        if answer.status == 404 and "/revision/" in request.path:
            return here.hub.answer(replace(request, path=request.path.partition("/revision/")[0]), "")
        return answer

    def act() -> Any:
        here.hub.twist = None
        if answer_any:
            own = here.hub.twist

            def twist(request: Request, answer: Answer) -> Answer:
                here.hub.twist = None
                try:
                    return change(request, answer)
                finally:
                    here.hub.twist = twist

            assert own is None
            here.hub.twist = twist
        try:
            if rng.random() < 0.5:
                return here.ask(scene, "pull", f"{TICKET}@{name}")
            return here.ask(scene, "pull", TICKET, revision=name)
        finally:
            here.hub.twist = None

    return Case(act, lambda made: answered_right("pull", made), far=True)


@stranger("hub", often=10)
def an_address_leads_to_anything(scene: Scene, rng: random.Random) -> Case:
    here = place()
    kinds = ("html", "json", "endless", "chunked", "slow", "loop", "500", "403", "404", "401", "301", "ticket")
    kind = rng.choice([*kinds, "ticket", "ticket"])
    scene.asked = [scene.root / "cache", scene.work / "out"]
    here.ready(scene)
    address = f"{here.elsewhere.address}/{kind}"
    ticket = {f"/ticket/{path.name}": path.read_bytes() for path in (material().place / "run/ticket").glob("*.*")}
    way = rng.randrange(4)
    if way == 1:
        name = rng.choice(sorted(ticket))
        ticket[name] = ticket[name] + bytes(rng.choice([1, 10**6, 10**8]))
    elif way == 2:
        name = rng.choice(sorted(ticket))
        ticket[name] = ticket[name][: rng.randrange(len(ticket[name]))]
    elif way == 3:
        address = rng.choice(
            [f"file://{odd.path_to(scene, rng)}", f"{address}/../..", f"{address}%2f..", "s3://x", "zip://a"]
        )
        scene.look_away = True

    def act() -> Any:
        here.elsewhere.tokens.clear()
        here.elsewhere.files = ticket
        try:
            return here.ask(scene, "pull", address)
        finally:
            here.elsewhere.files = {}
            if here.elsewhere.tokens:
                raise EndedError(Ending("token leaked", here.elsewhere.tokens[0]))

    def right(made: Any) -> str:
        return "" if made.get("ticket.safetensors") or kind != "ticket" else "no ticket"

    return Case(act, right, far=True)


@stranger("hub", often=6)
def records_name_somebodys_repository(scene: Scene, rng: random.Random) -> Case:
    """`verify` fetches no dataset that only a stranger's records name."""
    here = place()
    (ticket,) = give(scene, "run/ticket")
    named = rng.choice([DATA, "bob/huge", f"{DATA}/data", "alice/ticket"])

    def change(results: dict[str, Any]) -> None:
        results["data"]["name"] = named
        if "plan" in results:
            results["plan"]["data"]["dataset"] = named
            results["plan"]["data"]["revision"] = results["data"]["revision"] = rng.choice(
                [None, odd.path_to(scene, rng)]
            )

    edited(ticket, change)
    try:
        here.hub.store.commit("models/alice/forged", dict(prepare(ticket, "alice/forged", models=True).files))
    except Exception as problem:
        raise InapplicableError from problem
    case = asked(scene, rng, None, ("verify",))
    here.hub.requests.clear()

    def right(_: Any) -> str:
        asked = [request for request in here.hub.requests if "datasets/" in request]
        return f"it asks for {asked[0]}" if asked else ""

    return Case(case.act, right, far=True)
