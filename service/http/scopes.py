"""What a request is before it is routed: its path under a prefix, without a slash too many; HEAD as GET; and the
end of a connection.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ("Scopes",)


class Scopes:
    """ASGI middleware. root_path: what a proxy puts before our paths, whether or not it takes it away again.

    A slash too many is no reason to send a client elsewhere: behind a proxy we do not know our own scheme, and many
    programs follow no redirect of a POST.

    HEAD is answered wherever GET is, by the same route and without the body (RFC 9110, section 9.3.2). While the
    process drains, every answer ends its connection: the next request then finds another replica.
    """

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head = scope["method"] == "HEAD"
        inner = {**scope, "method": "GET"} if head else scope
        if root_path := self._root_path:
            path = scope["path"]
            # ASGI's path has the prefix. A proxy that takes it away sends the rest.
            whole = path if path.startswith(root_path + "/") else root_path + path
            # As people type it; a redirect would need to know the proxy's scheme. Nobody posts to a page: that is for a
            # path of ours that is called like the prefix.
            if path == root_path and inner["method"] == "GET":
                whole = root_path + "/"
            inner = {**inner, "root_path": root_path, "path": whole}
        if inner["path"].endswith("/") and inner["path"] != root_path + "/":
            inner = {**inner, "path": inner["path"][:-1]}

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["app"].state.gateway.admission.draining:
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            elif message["type"] == "http.response.body" and head:
                message = {**message, "body": b""}
            await send(message)

        try:
            await self._app(inner, receive, sending)
        finally:
            scope["route"] = inner.get("route")  # for who is outside, and has the other scope
