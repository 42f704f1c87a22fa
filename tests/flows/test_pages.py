"""What stands before Prefect's server: a request that found the database locked is put again, whole."""

import asyncio

import httpx
import pytest

from flows.pages import App, Message, Receive, Send, asked_again, confined

PAUSES_S = (0.0, 0.0)


def busy(times: int, bodies: list[bytes]) -> App:
    """A server that answers 503 so often, and raises as Starlette does, then 201; it notes what it is sent."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        assert scope.setdefault("times", 0) == 0, "a router writes into what it is given"
        scope["times"] += 1
        bodies.append((await receive())["body"])
        status = 503 if len(bodies) <= times else 201
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": str(status).encode()})
        if status == 503:
            raise OSError("database is locked")

    return app


def posted(app: App, body: bytes) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://here"
        ) as client:
            return await client.post("/create_flow_run", content=body)

    return asyncio.run(ask())


@pytest.mark.parametrize(("times", "status", "asked"), [(0, 201, 1), (1, 201, 2), (2, 201, 3), (3, 503, 3)])
def test_a_request_that_found_the_database_locked_is_put_again_a_few_times(times, status, asked):
    bodies: list[bytes] = []
    answer = posted(asked_again(busy(times, bodies), PAUSES_S), b"recipe" * 100_000)
    assert (answer.status_code, answer.content) == (status, str(status).encode())
    assert bodies == [b"recipe" * 100_000] * asked


def test_another_error_is_not_kept_back():
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        raise OSError("no space left")

    assert posted(asked_again(app, PAUSES_S), b"").status_code == 500


def test_the_answer_carries_the_policy_of_the_pages():
    answer = posted(confined(asked_again(busy(1, []), PAUSES_S), "http://127.0.0.1:4200/api"), b"")
    assert "connect-src 'self' http://127.0.0.1:4200 ws://127.0.0.1:4200" in answer.headers["content-security-policy"]
