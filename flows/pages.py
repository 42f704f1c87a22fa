"""Prefect's server as `textmill ui` starts it: its pages call no other host, and a locked database is asked again.

In: Prefect's application. Out: the same with one header more, and with fewer answers 503. Invariants: a browser that shows the
pages talks to this server only; without the header they ask Amplitude for a configuration, whatever Prefect's analytics setting
says.

Prefect answers 503 where SQLite was locked and nothing was done, and leaves it to the client to ask again. Its Python client
does; its pages do not, and a form then ends with "Unknown error while creating flow run".
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_PAUSES_S = (0.1, 0.3, 1.0, 3.0)


def create_app() -> App:
    """Returns Prefect's server; uvicorn's factory."""
    from prefect.server.api.server import create_app as create_server
    from prefect.settings import PREFECT_UI_API_URL

    return confined(asked_again(create_server()), PREFECT_UI_API_URL.value())


def asked_again(server: App, pauses_s: Sequence[float] = _PAUSES_S) -> App:
    """Returns `server` with each request that it answers by 503 put to it again after each of `pauses_s`."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await server(scope, receive, send)
            return
        body = await _body(receive)
        for pause_s in pauses_s:
            if await _answers(server, {**scope}, _replayed(body, receive), send):  # a router writes the rest of a path into it
                return
            await asyncio.sleep(pause_s)
        await server(scope, _replayed(body, receive), send)

    return app


async def _body(receive: Receive) -> bytes:
    """Returns the whole body of a request."""
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Returns what gives a whole body once, then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _answers(server: App, scope: Message, receive: Receive, send: Send) -> bool:
    """Says whether a request was answered; an answer 503 is kept back."""
    is_busy = False

    async def send_unless_busy(message: Message) -> None:
        nonlocal is_busy
        if message["type"] == "http.response.start":
            is_busy = message["status"] == HTTPStatus.SERVICE_UNAVAILABLE
        if not is_busy:
            await send(message)

    try:
        await server(scope, receive, send_unless_busy)
    except Exception:  # Starlette answers, and then raises what was wrong once more, for the server's log
        if not is_busy:
            raise
    return not is_busy


def confined(server: App, api_url: str) -> App:
    """Returns `server` with a policy that lets pages load from and connect to it alone.

    Args:
        api_url: Address the pages call; another name of this server where the browser came by `localhost`.
    """
    address = urlsplit(api_url)
    here = f"'self' {address.scheme}://{address.netloc} {address.scheme.replace('http', 'ws')}://{address.netloc}"
    policy = f"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src {here} data: blob:"

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", policy.encode())]
            await send(message)

        await server(scope, receive, send_with_policy)

    return app
