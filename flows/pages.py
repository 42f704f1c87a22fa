"""Prefect's server as `textmill ui` starts it: its pages call no other host.

In: Prefect's application. Out: the same with one header more. Invariant: a browser that shows the pages talks to this server
only; without the header they ask Amplitude for a configuration, whatever Prefect's analytics setting says.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def create_app() -> App:
    """Returns Prefect's server; uvicorn's factory."""
    from prefect.server.api.server import create_app as create_server
    from prefect.settings import PREFECT_UI_API_URL

    return confined(create_server(), PREFECT_UI_API_URL.value())


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
